//! Several small messages in one frame: the length of each, and its bytes. They are about items of consecutive numbers.

use crate::worker::protocol::view::View;

/// The length of a part that is missing: an item without an output.
const NONE: u32 = u32::MAX;

/// The bytes in front of each part.
const PREFIX_LEN: usize = 4;

/// A frame with several parts takes no more when it is as long.
pub(crate) const LONGEST: usize = 32 * 1024;

/// A longer message travels by itself.
pub(crate) const LONGEST_PART: usize = 16 * 1024;

/// What is in front of a part of this length; `None` for one that is missing.
pub(crate) fn prefix(len: Option<usize>) -> [u8; PREFIX_LEN] {
    len.map_or(NONE, |len| u32::try_from(len).expect("a part is short")).to_le_bytes()
}

/// The parts of a frame, in order.
pub(crate) struct Parts {
    body: View,
    at: usize,
}

impl Parts {
    pub(crate) fn of(body: View) -> Self {
        Self { body, at: 0 }
    }

    /// Whether the part at this place is there, with the places where it begins and ends.
    fn range(&self, at: usize) -> Option<(Option<usize>, usize)> {
        let prefix = self.body.get(at..at + PREFIX_LEN)?;
        let len = u32::from_le_bytes(prefix.try_into().expect("four bytes"));
        let start = at + PREFIX_LEN;
        if len == NONE {
            return Some((None, start));
        }
        let end = start.checked_add(len as usize).filter(|&end| end <= self.body.len())?;
        Some((Some(start), end))
    }
}

impl Iterator for Parts {
    type Item = Option<View>;

    fn next(&mut self) -> Option<Option<View>> {
        let (start, end) = self.range(self.at)?;
        self.at = end;
        Some(start.map(|start| self.body.part(start, end - start)))
    }
}

#[cfg(test)]
mod tests {
    use crate::worker::protocol::parts::*;

    fn read(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
        Parts::of(View::from(bytes)).map(|part| part.map(|part| part.to_vec())).collect()
    }

    #[test]
    fn parts_are_read_as_they_were_written() {
        let mut body = prefix(Some(2)).to_vec();
        body.extend(b"ab");
        body.extend(prefix(None));
        body.extend(prefix(Some(0)));

        assert_eq!(read(&body), [Some(b"ab".to_vec()), None, Some(Vec::new())]);
    }

    #[test]
    fn a_part_that_is_not_whole_is_not_read() {
        let mut body = prefix(Some(3)).to_vec();
        body.extend(b"ab");

        assert_eq!(read(&body), []);
        assert_eq!(read(&body[..3]), []);
    }
}
