//! Starts the program of a worker with nothing of its parent's but what it is given.
//!
//! `std::process::Command` passes on the signals that its thread blocks, those that the program ignores, and each descriptor without
//! close-on-exec. What it offers against that runs between `fork` and `exec`, and a fork copies the page tables of a program that may be
//! large, and runs what its libraries have registered for forks. `posix_spawn` needs neither.
#![allow(unsafe_code, reason = "neither std nor rustix has posix_spawn")]

use std::ffi::{CString, OsStr, c_char, c_int};
use std::io::{self, PipeReader};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::process::Pid;

/// The first descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// Where neither the C library nor `/proc` helps, descriptors from here on are left alone.
const LAST_LOOKED_AT: RawFd = 65_536;

/// A program that has begun.
pub(crate) struct Spawned {
    pub(crate) id: Pid,
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
}

/// Start a program with `stdin`, pipes for its other standard streams, and no other descriptor, in a process group of its own. It blocks
/// and ignores no signal.
pub(crate) fn spawn(program: &OsStr, arguments: &[impl AsRef<OsStr>], stdin: OwnedFd) -> io::Result<Spawned> {
    spawn_with(close_from(), program, arguments, stdin)
}

fn spawn_with(
    close_from: Option<CloseFrom>,
    program: &OsStr,
    arguments: &[impl AsRef<OsStr>],
    stdin: OwnedFd,
) -> io::Result<Spawned> {
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let words = std::iter::once(program).chain(arguments.iter().map(AsRef::as_ref));
    let words = words.map(text).collect::<io::Result<Vec<_>>>()?;
    let mut argv: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    argv.push(ptr::null_mut());

    let (stdout, stdout_there) = io::pipe()?;
    let (stderr, stderr_there) = io::pipe()?;
    // Where this program has closed a standard stream of its own, these may stand in the way of each other.
    let there = [stdin, stdout_there.into(), stderr_there.into()].into_iter().map(beyond_streams);
    let there = there.collect::<io::Result<Vec<_>>>()?;
    let mut actions = Actions::new()?;
    for (stream, file) in (0..).zip(&there) {
        actions.put(file, stream)?;
    }
    actions.close_others(close_from)?;
    let attributes = Attributes::new()?;

    let mut id = 0;
    // SAFETY: all pointers are valid for the call, both lists end with a null pointer, and the lists and texts are not written to.
    check(unsafe {
        libc::posix_spawnp(
            &raw mut id,
            argv[0],
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            libc::environ,
        )
    })?;
    let id = Pid::from_raw(id).ok_or(io::ErrorKind::Other)?;
    Ok(Spawned { id, stdout, stderr })
}

/// The same file, under a number that no standard stream has.
fn beyond_streams(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() >= FIRST { Ok(file) } else { Ok(rustix::io::fcntl_dupfd_cloexec(file, FIRST)?) }
}

/// What a child does with its descriptors before it begins.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: this is what makes one.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: it has been made.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn put(&mut self, file: &OwnedFd, stream: RawFd) -> io::Result<()> {
        // SAFETY: it has been made, and is not in use.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, file.as_raw_fd(), stream) })
    }

    fn close_others(&mut self, close_from: Option<CloseFrom>) -> io::Result<()> {
        if let Some(close_from) = close_from {
            // SAFETY: as above.
            return check(unsafe { close_from(&raw mut self.0, FIRST) });
        }
        // One that another thread opens after this look goes on to the child.
        for file in inheritable() {
            // SAFETY: as above.
            check(unsafe { libc::posix_spawn_file_actions_addclose(&raw mut self.0, file) })?;
        }
        Ok(())
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: it has been made, and is no longer used.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// What else a child does before it begins: it leaves its parent's process group, blocks no signal, and lets each do what it does by
/// default.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: this is what makes one.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: it has been made.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let to = &raw mut attributes.0;
        let mut signals = MaybeUninit::uninit();
        // SAFETY: the attributes have been made and are not in use; a set of signals is made by whichever of the two fills it.
        unsafe {
            check(libc::posix_spawnattr_setflags(to, flags.try_into().unwrap_or(0)))?;
            check(libc::posix_spawnattr_setpgroup(to, 0))?;
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(to, signals.as_ptr()))?;
            libc::sigfillset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(to, signals.as_ptr()))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it has been made, and is no longer used.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

/// The function of newer C libraries by which a child closes all descriptors from a number on.
fn close_from() -> Option<CloseFrom> {
    // SAFETY: the name is a text, and a symbol of this name is a function of this type.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"posix_spawn_file_actions_addclosefrom_np".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute::<*mut libc::c_void, CloseFrom>(found))
    }
}

/// The descriptors of this program that a child would have, too.
fn inheritable() -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        names.collect::<Vec<RawFd>>()
    });
    let all = listed.unwrap_or_else(|_| (FIRST..LAST_LOOKED_AT).collect());
    // SAFETY: this asks about a number, whatever it stands for.
    let is_inheritable = |file: &RawFd| unsafe { libc::fcntl(*file, libc::F_GETFD) } & libc::FD_CLOEXEC == 0;
    all.into_iter().filter(|&file| file >= FIRST).filter(is_inheritable).collect()
}

/// These functions return the number of their error.
fn check(error: c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use crate::worker::parent::process::spawn::*;

    /// What a shell says whose parent has a file that all its children inherit.
    fn output_beside_open_file(close_from: Option<CloseFrom>, script: &str) -> String {
        let (file, nothing) = (File::open("/dev/zero").unwrap(), File::open("/dev/null").unwrap());
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let arguments = ["-c", script, "sh", &file.as_raw_fd().to_string()].map(str::to_owned);
        let mut spawned = spawn_with(close_from, "sh".as_ref(), &arguments, nothing.into()).unwrap();
        let mut output = String::new();
        spawned.stdout.read_to_string(&mut output).unwrap();
        rustix::process::waitpid(Some(spawned.id), rustix::process::WaitOptions::empty()).unwrap();
        output
    }

    #[test]
    fn a_child_has_no_other_descriptor_with_any_c_library() {
        const LOOK: &str = "test -e /proc/$$/fd/$1 && echo inherited; echo done";

        for close_from in [close_from(), None] {
            assert_eq!(output_beside_open_file(close_from, LOOK), "done\n", "{}", close_from.is_some());
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let nothing = File::open("/dev/null").unwrap();

        let error = spawn("/no/such/program".as_ref(), &[] as &[&str], nothing.into()).err().unwrap();

        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
