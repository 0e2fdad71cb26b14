//! A file that appears as a whole: it is written beside its place, and takes the place when it is complete.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::FileId;

/// So many programs may write to one place at a time, each into a partial file of its own.
const MOST_PARTIAL_FILES: u32 = 100;

/// No chain of symbolic links is longer, where one ends in nothing.
const MOST_LINKS: u32 = 40;

/// A new file on its way into the place of an old one.
///
/// It is written to `NAME.partial` in the same directory. What is left there by a run that failed is used again by the next one;
/// a lock shows whether its writer is still at work.
pub(crate) struct Replacement {
    /// Where the file is to appear: where a symbolic link leads to, not the link.
    target: PathBuf,
    partial: PathBuf,
    has_old: bool,
    is_committed: bool,
}

impl Replacement {
    /// Begin to write what is to appear at `path`, with the permissions of the file that is there.
    pub(crate) fn begin(path: &Path) -> io::Result<(File, Self)> {
        let target = end_of_links(path);
        let old = target.metadata().ok();
        if old.is_some() {
            // A file that must not be written must not be replaced either.
            OpenOptions::new().write(true).open(&target)?;
        }
        let (partial, file) = match (create_beside(&target), target.file_name()) {
            // A file may be open to writing in a directory that is not.
            (Err(_), Some(name)) if old.as_ref().is_some_and(Metadata::is_file) => {
                create_beside(&std::env::temp_dir().join(name))?
            }
            (created, _) => created?,
        };
        let replacement = Self { target, partial, has_old: old.is_some(), is_committed: false };
        file.set_len(0)?;
        if let Some(old) = old {
            keep_owner(&file, &old);
            file.set_permissions(old.permissions())?;
        }
        Ok((file, replacement))
    }

    /// The file is complete: let it take its place.
    pub(crate) fn commit(&mut self) -> io::Result<()> {
        match fs::rename(&self.partial, &self.target) {
            // A file that is mounted by itself, as containers have them, or whose directory is closed, keeps its place.
            Err(_) if self.has_old => {
                let mut target = OpenOptions::new().write(true).truncate(true).open(&self.target)?;
                io::copy(&mut File::open(&self.partial)?, &mut target)?;
                let _ = fs::remove_file(&self.partial);
            }
            renamed => renamed?,
        }
        self.is_committed = true;
        Ok(())
    }

    /// A sentence about what was written before a failure, unless it is nothing. `name` is that of the file for the user.
    pub(crate) fn partial(&self, file: &File, name: &str) -> Option<String> {
        if self.is_committed || file.metadata().is_ok_and(|found| found.len() == 0) {
            return None;
        }
        let old = if self.has_old { format!("; '{name}' is unchanged") } else { String::new() };
        let partial = Path::new(name).with_file_name(self.partial.file_name()?);
        // As its user would type it, unless a link leads elsewhere.
        let is_same = partial.canonicalize().is_ok_and(|partial| partial == self.partial);
        let partial = if is_same { &partial } else { &self.partial };
        Some(format!("The outputs before the failure are in '{}'{old}", partial.display()))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Of a run that failed before its first output nothing is left. Failing to remove it does no harm.
        if !self.is_committed && self.partial.metadata().is_ok_and(|found| found.len() == 0) {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// The place where a file is made that is created under the name `path`.
fn end_of_links(path: &Path) -> PathBuf {
    if let Ok(target) = path.canonicalize() {
        return target;
    }
    let mut end = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = end.read_link() else { break };
        end = end.parent().unwrap_or(Path::new("")).join(next);
    }
    end
}

fn create_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    let Some(name) = target.file_name().filter(|_| !target.is_dir()) else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    let mut number = 0;
    loop {
        let mut partial = name.to_owned();
        partial.push(".partial");
        if number > 0 {
            partial.push(number.to_string());
        }
        let partial = target.with_file_name(partial);
        match claim(&partial) {
            Ok(Some(file)) => return Ok((partial, file)),
            // It may be another's, who holds it or keeps it for himself.
            Err(error) if number == MOST_PARTIAL_FILES || !partial.exists() => return Err(error),
            Ok(None) | Err(_) => number += 1,
        }
    }
}

/// Create the file, or take over what an earlier run has left; nothing if another one is writing to it.
fn claim(partial: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(partial)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // On a file system without locks two runs at the same time must have different outputs.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // Its writer may have finished, and moved it, since it was opened.
        let is_here = FileId::of(&file.metadata()?) == partial.symlink_metadata().ok().and_then(|it| FileId::of(&it));
        if is_here {
            return Ok(Some(file));
        }
    }
}

/// Only the superuser can give files away; for all others the new file is their own.
fn keep_owner(file: &File, old: &Metadata) {
    let _ = fchown(file, Some(old.uid()), Some(old.gid()));
}
