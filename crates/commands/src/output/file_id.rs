//! The identity of a file, whatever its name.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use crate::descriptor;
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

    /// The file that is read.
    pub(crate) fn of_input(place: &Place) -> Option<Self> {
        let found = match place {
            Place::Stdin => descriptor::stdin().and_then(|file| file.metadata()),
            Place::File(path) => path.metadata(),
        };
        found.ok().as_ref().and_then(Self::of)
    }

    /// The file that is written to.
    pub(crate) fn of_output(place: &Place) -> Option<Self> {
        match place {
            Place::Stdin => descriptor::stdout().and_then(|file| file.metadata()).ok().as_ref().and_then(Self::of),
            Place::File(_) => Self::of_input(place),
        }
    }
}
