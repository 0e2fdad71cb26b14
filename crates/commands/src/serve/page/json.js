// Formats JSON with line breaks and colours. Literals are not parsed, so that numbers keep all their digits.

const JSON_TOKEN = /"(?:\\.|[^"\\])*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;
const LONGEST_TEXT = 20_000;

/** Return DOM nodes that show a JSON text. Lists and objects that do not fit on a line are divided into lines. */
function showJson(text, lineLength) {
  const pieces = [];
  let rest = LONGEST_TEXT;
  const write = (kind, piece) => {
    if (rest > 0) {
      pieces.push(kind ? create("span", { class: kind }, piece.slice(0, rest)) : piece.slice(0, rest));
    }
    rest -= piece.length;
  };
  try {
    writeJson(readJson(text.match(JSON_TOKEN) ?? []), "", { write, lineLength });
  } catch {
    // The recursion is too deep.
    return [text.slice(0, LONGEST_TEXT)];
  }
  if (rest < 0) {
    pieces.push(create("span", { class: "more" }, `… ${plural(-rest, "more character")}`));
  }
  return pieces;
}

/** Return a literal as its text, and a list or an object as `{ open, close, entries }`. */
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

function writeJson(value, indent, style) {
  if (typeof value === "string") {
    style.write(kindOf(value), value);
  } else if (indent.length + lengthOf(value) <= style.lineLength || value.entries.length === 0) {
    writeOnLine(value, indent, style);
  } else {
    writeInLines(value, indent, style);
  }
}

function writeOnLine({ open, close, entries }, indent, style) {
  style.write(null, open);
  entries.forEach((entry, index) => {
    style.write(null, index > 0 ? ", " : "");
    writeEntry(entry, indent, style);
  });
  style.write(null, close);
}

/** Write as many literals as fit on each line, and each list or object on lines of its own. */
function writeInLines({ open, close, entries }, indent, style) {
  const inner = `${indent}  `;
  let column = Infinity;
  style.write(null, open);
  entries.forEach((entry, index) => {
    const isLiteral = typeof entry.value === "string";
    const length = lengthOfEntry(entry);
    const hasRoom = isLiteral && column + length <= style.lineLength;
    style.write(null, `${index > 0 ? "," : ""}${hasRoom ? " " : `\n${inner}`}`);
    column = isLiteral ? (hasRoom ? column : inner.length) + length : Infinity;
    writeEntry(entry, inner, style);
  });
  style.write(null, `\n${indent}${close}`);
}

function writeEntry({ key, value }, indent, style) {
  if (key !== null) {
    style.write("key", key);
    style.write(null, ": ");
  }
  writeJson(value, indent, style);
}

function lengthOfEntry({ key, value }) {
  return (key === null ? 0 : key.length + 2) + lengthOf(value) + 2;
}

function lengthOf(value) {
  if (typeof value === "string") {
    return value.length;
  }
  // Cached, because each level needs the lengths of all levels below it.
  value.length ??= value.entries.reduce((sum, entry) => sum + lengthOfEntry(entry), 2);
  return value.length;
}

function kindOf(literal) {
  if (literal.startsWith('"')) {
    return "string";
  }
  return /^[-\d]/.test(literal) ? "numeral" : "word";
}
