/** Files that go into the bundle as text (`import … with { type: "text" }`). */
declare module "*/page-client.js" {
  const text: string;
  // oxlint-disable-next-line import/no-default-export -- text imports have only a default
  export default text;
}
declare module "*.css" {
  const text: string;
  // oxlint-disable-next-line import/no-default-export -- text imports have only a default
  export default text;
}
