// The builder's own ids of modules depend on the absolute path of this folder; these do not, so that the build is the same everywhere.
module.exports = { optimization: { moduleIds: 'natural', chunkIds: 'natural' } };
