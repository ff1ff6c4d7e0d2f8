/** Where code goes in a cell: the new source, and the position after the code. */
export function withCode(source: string, offset: number, code: string): { source: string; end: number } {
  if (!source.trim()) {
    return { source: code, end: code.length };
  }
  const before = source.slice(0, offset);
  const after = source.slice(offset);
  const start = before === '' || before.endsWith('\n') ? '' : '\n';
  const stop = after === '' || after.startsWith('\n') ? '' : '\n';
  return { source: before + start + code + stop + after, end: (before + start + code).length };
}
