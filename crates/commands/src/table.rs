//! Text in columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Which side of its column a cell leans to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells as lines of aligned columns, two spaces apart, indented by `indent`.
pub(crate) fn columns(rows: &[Vec<String>], align: &[Align], indent: &str) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| width_of(cell)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let start = text.len();
        text.push_str(indent);
        for (column, cell) in row.iter().enumerate() {
            let padding = std::iter::repeat_n(' ', widths[column] - width_of(cell));
            match align.get(column).copied().unwrap_or(Align::Left) {
                Align::Left => {
                    text.push_str(cell);
                    text.extend(padding);
                }
                Align::Right => {
                    text.extend(padding);
                    text.push_str(cell);
                }
            }
            text.push_str("  ");
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}

/// `1 node`, `2 nodes`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// The same for what may be more than a computer can address.
pub(crate) fn counted_long(count: u64, one: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), one)
}

/// `text` without line breaks and other control characters, cut to `limit` columns.
pub(crate) fn on_one_line(text: &str, limit: usize) -> String {
    if text.len() <= limit && is_printable_ascii(text) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    if shown.width() <= limit {
        return shown;
    }
    let mut width = 0;
    let mut cut: String = shown
        .chars()
        .take_while(|character| {
            width += character.width().unwrap_or(0);
            width < limit
        })
        .collect();
    cut.push('…');
    cut
}

/// The columns that a text takes.
fn width_of(text: &str) -> usize {
    // Most text needs no look at the tables of Unicode.
    if is_printable_ascii(text) { text.len() } else { text.width() }
}

fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_line_up_whatever_the_width_of_their_letters() {
        let rows = [vec!["日本".into(), "1".into()], vec!["abc".into(), "20".into()]];

        assert_eq!(columns(&rows, &[Align::Left, Align::Right], ""), "日本   1\nabc   20\n");
    }

    #[test]
    fn a_long_name_with_a_line_break_stays_on_one_short_line() {
        assert_eq!(on_one_line("a\nb", 40), "a\\nb");
        assert_eq!(on_one_line("abcdefgh", 5), "abcd…");
    }
}
