//! The interpreter inside, started as the environment's own `python` would start.

use std::ffi::{CStr, CString, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyo3::{Python, ffi};

/// The running interpreter. The thread that started it is Python's main thread, and the one to finish it.
pub(crate) struct Interpreter {
    main_thread: *mut ffi::PyThreadState,
}

impl Interpreter {
    /// Start with `executable` as `sys.executable`: CPython finds the standard library and `site-packages` from it, through
    /// `pyvenv.cfg` when it lies in a virtual environment. `arguments` become `sys.argv`.
    ///
    /// Variables such as `PYTHONPATH` count, and Ctrl-C raises `KeyboardInterrupt`, as in `python`.
    pub(crate) fn start(executable: &Path, arguments: &[OsString]) -> Result<Self, String> {
        let executable = c_string(executable.as_os_str().as_bytes())?;
        let arguments =
            arguments.iter().map(|argument| c_string(argument.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        initialize(&executable, &arguments)?;
        // SAFETY: the interpreter is initialized and this thread is attached to it. From here on PyO3 attaches.
        #[allow(unsafe_code, reason = "PyO3 has no call that leaves an interpreter started by hand")]
        let main_thread = unsafe { ffi::PyEval_SaveThread() };
        Ok(Self { main_thread })
    }

    /// Run `work` in the interpreter.
    #[allow(clippy::unused_self, reason = "the interpreter that runs is the permission to attach to it")]
    #[allow(clippy::disallowed_methods, reason = "this is the thread that started it, and ends it")]
    pub(crate) fn attach<R>(&self, work: impl FnOnce(Python<'_>) -> R) -> R {
        Python::attach(work)
    }

    /// End as `python` ends: wait for threads, run `atexit`, write out what is buffered. Returns whether all of it could be
    /// written.
    pub(crate) fn finish(self) -> bool {
        // SAFETY: the state is that of this thread, saved by `start`, and nothing is attached: `attach` has returned.
        #[allow(unsafe_code, reason = "PyO3 never ends an interpreter")]
        let status = unsafe {
            ffi::PyEval_RestoreThread(self.main_thread);
            ffi::Py_FinalizeEx()
        };
        status == 0
    }
}

fn c_string(text: &[u8]) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{:?} contains a zero byte", String::from_utf8_lossy(text)))
}

#[allow(unsafe_code, reason = "PyO3 cannot start an interpreter inside a virtual environment")]
fn initialize(executable: &CStr, arguments: &[CString]) -> Result<(), String> {
    let mut config = MaybeUninit::<ffi::PyConfig>::uninit();
    // SAFETY: the call fills in all of the structure.
    let mut config = unsafe {
        ffi::PyConfig_InitPythonConfig(config.as_mut_ptr());
        config.assume_init()
    };
    // The words are ours and no options of `python`.
    config.parse_argv = 0;
    let mut words: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    let count = ffi::Py_ssize_t::try_from(words.len()).map_err(|_| "too many arguments".to_owned())?;
    let config = &raw mut config;
    // SAFETY: the strings end with a zero and live until the end of this function; the configuration copies them. It is
    // initialized above, is cleared once, and is not used afterwards.
    unsafe {
        let mut status = ffi::PyConfig_SetBytesArgv(config, count, words.as_mut_ptr());
        for field in [&raw mut (*config).program_name, &raw mut (*config).executable] {
            if ffi::PyStatus_Exception(status) == 0 {
                status = ffi::PyConfig_SetBytesString(config, field, executable.as_ptr());
            }
        }
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(config);
        }
        ffi::PyConfig_Clear(config);
        explain(&status, executable)
    }
}

/// # Safety
///
/// `status` comes from CPython, whose texts in it are static.
#[allow(unsafe_code, reason = "the text is a C string")]
unsafe fn explain(status: &ffi::PyStatus, executable: &CStr) -> Result<(), String> {
    // SAFETY: a plain question about a structure passed by value.
    if unsafe { ffi::PyStatus_Exception(*status) } == 0 {
        return Ok(());
    }
    let reason = if status.err_msg.is_null() {
        "no reason given".into()
    } else {
        // SAFETY: the text is static and ends with a zero.
        unsafe { CStr::from_ptr(status.err_msg) }.to_string_lossy()
    };
    Err(format!("Python cannot start with {}: {reason}", executable.to_string_lossy()))
}
