//! The numbers that identify the inputs of a run.
//!
//! Users count items: the first has the index 0. An end of input is an input too, and none of those items: its number comes between
//! those of two items, and its outputs and errors have the index of the item before.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// Something for each input, by its number. The numbers are ours, so that a quick hash will do.
pub(crate) type ByNumber<V> = HashMap<u64, V, FixedState>;

/// The number of bits for the ends of input around one item.
const BITS: u32 = 16;

/// Stands where there is no input.
pub(crate) const NO_INPUT: u64 = u64::MAX;

/// The number of the item with this index.
pub(crate) const fn of_item(index: u64) -> u64 {
    // Before the first item there may be ends of input too.
    (index << BITS) | (1 << (BITS - 1))
}

/// The number of a chunk, an input of several items, of which the first has this index.
pub(crate) const fn of_chunk(first: u64) -> u64 {
    of_item(first) - 1
}

/// The number of the item at a position of a chunk. Without a position, the number of the input itself.
pub(crate) fn of_position(input: u64, position: Option<u32>) -> u64 {
    position.map_or(input, |position| of_item(item_index(input) + u64::from(position)))
}

/// The number of an end of input after this many items and after the input numbered `last`.
pub(crate) fn of_end(items: u64, last: u64) -> u64 {
    let after_items = if items == 0 { 0 } else { of_item(items - 1) };
    after_items.max(last) + 1
}

/// The index of the item that an input is, or comes after; of a chunk, that of its first item.
pub(crate) const fn item_index(input: u64) -> u64 {
    input >> BITS
}

/// The same, unless the input is a chunk: which of its items is meant is not known.
pub(crate) fn known_item_index(input: u64) -> Option<u64> {
    let index = item_index(input);
    (input != of_chunk(index)).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_input_come_between_items_and_take_no_index() {
        let first_end = of_end(0, 0);
        let end = of_end(3, of_item(1));
        let next_end = of_end(3, end);

        assert!(first_end < of_item(0));
        assert!(of_item(2) < end && end < next_end && next_end < of_item(3));
        assert_eq!([first_end, of_item(2), end, next_end, of_item(3)].map(item_index), [0, 2, 2, 2, 3]);
    }

    #[test]
    fn a_chunk_comes_before_its_items_and_after_the_ends_before_them() {
        let end = of_end(3, of_item(2));

        assert!(end < of_chunk(3) && of_chunk(3) < of_item(3));
        assert_eq!(item_index(of_chunk(3)), 3);
        assert_eq!([of_chunk(3), of_item(3), end].map(known_item_index), [None, Some(3), Some(2)]);
    }
}
