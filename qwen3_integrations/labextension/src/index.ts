import { live } from './live.js';
import { plugin } from './plugin.js';

export default [plugin, live];
