/** Dockerfiles are imported as text (`with { type: "text" }`), so that a bundle holds them. */
declare module "*Dockerfile" {
  const text: string;
  export default text;
}
