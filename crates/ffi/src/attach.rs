//! The way of every thread to the interpreter, also when the interpreter ends.
//!
//! Python before 3.14 ends a thread that comes back to it while it finalizes: `pthread_exit` unwinds the stack, in which Rust frames would
//! drop objects without the interpreter, and abort the process. Here such a thread stands still until the process has ended, as it does
//! from Python 3.14 on; its stack is left as it is.
//!
//! *Boundary:* no other file of this crate calls `Python::attach`, `try_attach` or `detach`; `clippy.toml` holds it.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;
use std::time::Duration;

use pyo3::{Python, ffi};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not come to the interpreter by this file.
    New,
    /// It stands still where Python would end it.
    Prepared,
    /// It finalizes the interpreter, and alone may still attach.
    Finalizing,
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::New) };
    static HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
}

/// Run `work` attached. When the interpreter has ended or is ending, this does not return.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
#[inline]
pub(crate) fn attach<R>(work: impl FnOnce(Python<'_>) -> R) -> R {
    if state() == State::Finalizing {
        // SAFETY: this thread was attached while the interpreter was finalizing, so it is the one that finalizes it.
        #[allow(unsafe_code, reason = "PyO3 refuses this thread with all others")]
        return unsafe { Python::attach_unchecked(work) };
    }
    Python::try_attach(work).unwrap_or_else(|| stand_still())
}

/// Run `work` attached, unless the interpreter has ended or is ending.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn try_attach<R>(work: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    prepare_thread();
    Python::try_attach(work)
}

/// Run `work` while other threads may have the interpreter. When it has ended meanwhile, this does not return.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn detach<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    prepare_thread();
    if !is_running() {
        STATE.set(State::Finalizing);
    }
    py.detach(|| {
        let result = work();
        if !is_running() && STATE.get() != State::Finalizing {
            stand_still();
        }
        result
    })
}

/// Let this thread stand still where Python would end it. To be called before Rust calls Python on a thread of the user's.
#[inline]
pub(crate) fn prepare_thread() {
    state();
}

#[inline]
fn state() -> State {
    match STATE.get() {
        State::New => prepare(),
        state => state,
    }
}

#[cold]
fn prepare() -> State {
    STATE.set(State::Prepared);
    HANDLER.set(Handler::push());
    State::Prepared
}

/// Whether the interpreter is neither finalizing nor finalized.
fn is_running() -> bool {
    // SAFETY: it may be called at any time.
    #[allow(unsafe_code, reason = "PyO3 has no such function")]
    let is_initialized = unsafe { ffi::Py_IsInitialized() };
    is_initialized != 0
}

fn stand_still() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// What the C library runs first when a thread is ended by `pthread_exit`, before it unwinds the stack.
struct Handler {
    buffer: *mut Buffer,
    pop: Pop,
}

/// Room for the structure `_pthread_cleanup_buffer` of glibc or `__ptcb` of musl, which the C library fills in.
type Buffer = [usize; 8];

type Push = unsafe extern "C" fn(*mut Buffer, extern "C" fn(*mut c_void), *mut c_void);
type Pop = unsafe extern "C" fn(*mut Buffer, c_int);

impl Handler {
    /// `None` where the C library has no such thing; it does not unwind the stack there, either.
    #[allow(unsafe_code, reason = "these are functions of the C library")]
    fn push() -> Option<Self> {
        let (push, pop) = functions()?;
        // In the heap: glibc calls a handler when the unwinding leaves the frame that holds its buffer, so at once.
        let buffer = Box::into_raw(Box::new(Buffer::default()));
        // SAFETY: the buffer is large enough, and lives until `drop` takes the handler off the list of this thread.
        unsafe { push(buffer, stand_still_if_ending, std::ptr::null_mut()) };
        Some(Self { buffer, pop })
    }
}

impl Drop for Handler {
    #[allow(unsafe_code, reason = "as in `push`")]
    fn drop(&mut self) {
        // SAFETY: the thread ends by returning, and pops what it pushed; nothing else has the buffer then.
        unsafe {
            (self.pop)(self.buffer, 0);
            drop(Box::from_raw(self.buffer));
        }
    }
}

extern "C" fn stand_still_if_ending(_: *mut c_void) {
    if !is_running() {
        stand_still();
    }
}

fn functions() -> Option<(Push, Pop)> {
    static FUNCTIONS: OnceLock<Option<(Push, Pop)>> = OnceLock::new();
    *FUNCTIONS.get_or_init(|| {
        let (push, pop) = (find(c"_pthread_cleanup_push"), find(c"_pthread_cleanup_pop"));
        if push.is_null() || pop.is_null() {
            return None;
        }
        // SAFETY: these are the functions behind the macros `pthread_cleanup_push` and `pthread_cleanup_pop` in both C libraries of Linux.
        #[allow(unsafe_code, reason = "symbols have no type")]
        unsafe {
            Some((std::mem::transmute::<*mut c_void, Push>(push), std::mem::transmute::<*mut c_void, Pop>(pop)))
        }
    })
}

/// A function of the libraries that are loaded. Not linked, because a C library may be without it.
fn find(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a zero.
    #[allow(unsafe_code, reason = "the standard library does not have it")]
    unsafe {
        libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr())
    }
}
