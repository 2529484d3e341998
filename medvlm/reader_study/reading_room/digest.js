// SHA-256 (FIPS 180-4) of a string in UTF-8, as hex; pages opened from a folder have no crypto.subtle everywhere.
function sha256(text) {
  const bytes = new TextEncoder().encode(text), length = bytes.length;
  const padded = new Uint8Array(((length + 8 >> 6) + 1) << 6);
  padded.set(bytes); padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(length / 0x20000000)); view.setUint32(padded.length - 4, length << 3);
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every(p => n % p)) primes.push(n);
  const part = x => (x - Math.floor(x)) * 0x100000000 >>> 0;
  const k = primes.map(p => part(Math.cbrt(p))), h = primes.slice(0, 8).map(p => part(Math.sqrt(p)));
  const turn = (x, n) => x >>> n | x << 32 - n, w = new Uint32Array(64);
  for (let start = 0; start < padded.length; start += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(start + 4 * i);
    for (let i = 16; i < 64; i++) {
      const a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >>> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >>> 10);
    }
    const s = h.slice();
    for (let i = 0; i < 64; i++) {
      const t = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + (s[4] & s[5] ^ ~s[4] & s[6]) + k[i] + w[i] >>> 0;
      const u = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + (s[0] & s[1] ^ s[0] & s[2] ^ s[1] & s[2]) >>> 0;
      s.pop(); s[3] = s[3] + t >>> 0; s.unshift(t + u >>> 0);
    }
    for (let i = 0; i < 8; i++) h[i] = h[i] + s[i] >>> 0;
  }
  return h.map(x => x.toString(16).padStart(8, "0")).join("");
}
// JSON with sorted keys and no spaces: the text that the digest of an answers file is taken over.
function canonical(value) {
  if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
  if (value && typeof value === "object")
    return "{" + Object.keys(value).sort().map(key => JSON.stringify(key) + ":" + canonical(value[key])).join(",") + "}";
  return JSON.stringify(value);
}
