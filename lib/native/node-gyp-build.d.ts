declare module 'node-gyp-build' {
  interface NodeGypBuild {
    (root: string): unknown;
    path(root: string): string;
  }
  const load: NodeGypBuild;
  export default load;
}
