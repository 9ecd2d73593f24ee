// Values as bytes, text, JSON and hex, and back, without a byte lost.

const encoder = new TextEncoder();
// A mark of byte order is a part of the value, too.
const decoder = new TextDecoder('utf-8', {fatal: true, ignoreBOM: true});

// The text that bytes are; null: they are no UTF-8, or have control characters that nobody could see.
export function asText(bytes) {
  let text;
  try { text = decoder.decode(bytes); } catch { return null; }
  // eslint-disable-next-line no-control-regex
  return /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(text) ? null : text;
}

export function bytesOf(text) { return encoder.encode(text); }

export function isSame(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

// Whether a text field gives back exactly these bytes: it makes one line end of every kind.
export function keepsText(bytes) {
  const text = asText(bytes);
  if (text === null) return false;
  const area = document.createElement('textarea');
  area.value = text;
  return isSame(encoder.encode(area.value), bytes);
}

export function fromBase64(text) {
  const chars = atob(text), bytes = new Uint8Array(chars.length);
  for (let at = 0; at < chars.length; at += 1) bytes[at] = chars.charCodeAt(at);
  return bytes;
}

export function toBase64(bytes) {
  let chars = '';
  for (let at = 0; at < bytes.length; at += 0x8000) chars += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(chars);
}

const HEX = Array.from({length: 256}, (_, byte) => byte.toString(16).padStart(2, '0'));

// Sixteen bytes a line; with offsets and what is readable beside them, unless it is to be edited.
export function asHex(bytes, isShown = true) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const some = [...bytes.subarray(at, at + 16)];
    const digits = some.map((byte) => HEX[byte]).join(' ');
    if (!isShown) { lines.push(digits); continue; }
    const chars = some.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${digits.padEnd(47)}  ${chars}`);
  }
  return lines.join('\n');
}

// The bytes that hex says; null: it is none.
export function fromHex(text) {
  const digits = text.replace(/\s+/g, '');
  if (digits.length % 2 || /[^0-9a-fA-F]/.test(digits)) return null;
  const bytes = new Uint8Array(digits.length / 2);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = parseInt(digits.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

// JSON with two spaces for each level: {text}, or {error} where it is none. Only the spaces differ from
// what is stored: numbers keep all their digits, and a member that is there twice stays there twice.
export function prettyJson(source) {
  try { JSON.parse(source); } catch (error) { return {error: error.message}; }
  const tokens = source.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) || [];
  let text = '', depth = 0;
  const line = () => `\n${'  '.repeat(depth)}`;
  tokens.forEach((token, at) => {
    if (token === '{' || token === '[') {
      depth += 1;
      text += token;
      if (tokens[at + 1] !== '}' && tokens[at + 1] !== ']') text += line();
    } else if (token === '}' || token === ']') {
      depth -= 1;
      if (tokens[at - 1] !== '{' && tokens[at - 1] !== '[') text += line();
      text += token;
    } else if (token === ',') text += `,${line()}`;
    else text += token === ':' ? ': ' : token;
  });
  return {text};
}
