// The server's interface, as the page uses it.
let token = "";

export function setToken(text) {
  token = text.trim();
}

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (response.ok) return response.json();
  // A problem document of RFC 9457; a proxy in between may say it otherwise.
  const text = await response.text();
  let detail = text.slice(0, 300);
  try {
    detail = JSON.parse(text).detail ?? detail;
  } catch { /* not JSON: the text is what there is */ }
  throw new Refused(response.status, `${detail || response.statusText} (${response.status})`);
}

export async function isReady() {
  try {
    return (await fetch("/v2/health/ready")).ok;
  } catch {
    return false;
  }
}

export const listModels = async () => (await call("/v1/models")).models;

export const detect = (model, blob, signal) =>
  call(`/v1/models/${encodeURIComponent(model)}/detect`, {
    method: "POST",
    body: blob,
    headers: { "Content-Type": blob.type.startsWith("image/") ? blob.type : "application/octet-stream" },
    signal,
  });
