// RFC 9421 as protocol 1 uses it: the whole of what other folders need.
export { contentDigest, digestMatches } from "./signature-digest.ts";
export { type CheckedSignature, checkRequest, signRequest } from "./signature-request.ts";
export { checkResponse, signResponse } from "./signature-response.ts";
export { mayStreamBody } from "./signature-streams.ts";
