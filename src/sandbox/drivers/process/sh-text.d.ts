/** Shell scripts are imported as text (`with { type: "text" }`), so that a bundle holds them. */
declare module "*.sh" {
  const text: string;
  export default text;
}
