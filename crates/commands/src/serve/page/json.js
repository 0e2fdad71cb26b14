// JSON as people read it, in lines and colours. Literals stay as they came: numbers keep all their digits.

const JSON_TOKEN = /"(?:\\.|[^"\\])*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;
const LONGEST_LINE = 84;
const LONGEST_TEXT = 20_000;

/** Return nodes that show a JSON text; other texts are shown as they are. */
function showJson(text) {
  const pieces = [];
  let rest = LONGEST_TEXT;
  const write = (kind, piece) => {
    if (rest > 0) {
      pieces.push(kind ? create("span", { class: kind }, piece.slice(0, rest)) : piece.slice(0, rest));
    }
    rest -= piece.length;
  };
  try {
    writeJson(readJson(text.match(JSON_TOKEN) ?? []), "", write);
  } catch {
    // Nested too deeply for this page.
    return [text.slice(0, LONGEST_TEXT)];
  }
  if (rest < 0) {
    pieces.push(create("span", { class: "more" }, `… ${plural(-rest, "more character")}`));
  }
  return pieces;
}

/** Return literals as texts, and lists and objects as `{ open, close, entries }`; entries of objects have keys. */
function readJson(tokens) {
  let place = 0;
  const read = () => {
    const token = tokens[place] ?? "";
    place += 1;
    if (token !== "[" && token !== "{") {
      return token;
    }
    const entries = [];
    const close = token === "[" ? "]" : "}";
    while (place < tokens.length && tokens[place] !== close) {
      if (tokens[place] === ",") {
        place += 1;
        continue;
      }
      const key = token === "{" ? tokens[place] : null;
      place += key === null ? 0 : 2;
      entries.push({ key, value: read() });
    }
    place += 1;
    return { open: token, close, entries };
  };
  return read();
}

function writeJson(value, indent, write) {
  if (typeof value === "string") {
    return write(kindOf(value), value);
  }
  const isShort = lengthOf(value) <= LONGEST_LINE;
  const inner = `${indent}  `;
  write(null, value.open);
  value.entries.forEach(({ key, value: entry }, index) => {
    write(null, `${index > 0 ? "," : ""}${isShort ? (index > 0 ? " " : "") : `\n${inner}`}`);
    if (key !== null) {
      write("key", key);
      write(null, ": ");
    }
    writeJson(entry, inner, write);
  });
  return write(null, `${isShort || value.entries.length === 0 ? "" : `\n${indent}`}${value.close}`);
}

function lengthOf(value) {
  if (typeof value === "string") {
    return value.length;
  }
  // Kept, because each level asks for the lengths of all below it.
  value.length ??= value.entries.reduce(
    (sum, entry) => sum + (entry.key?.length ?? 0) + 4 + lengthOf(entry.value),
    2,
  );
  return value.length;
}

function kindOf(literal) {
  if (literal.startsWith('"')) {
    return "string";
  }
  return /^[-\d]/.test(literal) ? "numeral" : "word";
}
