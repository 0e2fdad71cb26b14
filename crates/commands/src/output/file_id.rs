//! The identity of a file, whatever its name.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::input::Place;

/// The identity of a regular file. Its names may be many: links, `/dev/fd/3`, a redirection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    /// The file that this is about; nothing for a pipe, a device or a directory.
    pub(crate) fn of(found: &Metadata) -> Option<Self> {
        found.is_file().then(|| Self { device: found.dev(), number: found.ino() })
    }

    /// The file at a place, where `standard` is the standard stream that `-` stands for.
    pub(crate) fn at(place: &Place, standard: fn() -> io::Result<File>) -> Option<Self> {
        let found = match place {
            Place::Stdin => standard().and_then(|file| file.metadata()),
            Place::File(path) => path.metadata(),
        };
        found.ok().as_ref().and_then(Self::of)
    }
}
