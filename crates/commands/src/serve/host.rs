//! What a service needs from the program that runs it: the command line, or a program in Python.

use crate::failure::Failure;
use crate::loader::Loader;

/// The program around a service.
pub trait ServeHost {
    /// Whether the service is to stop. A failure that is an order to stop begins the graceful stop; a second one ends at once.
    fn check_stop(&self) -> Result<(), Failure>;

    /// Connections are accepted at this URL.
    fn ready(&self, url: &str) {
        let _ = url;
    }

    /// Something happened that people should know, which may be a warning. Returns whether the program shows it; otherwise it is written to
    /// stderr.
    fn shows(&self, is_warning: bool, text: &str) -> bool {
        let _ = (is_warning, text);
        false
    }
}

/// The command line: signals stop the service, and people read stderr.
pub(crate) struct CommandHost<'a>(pub(crate) &'a dyn Loader);

impl ServeHost for CommandHost<'_> {
    fn check_stop(&self) -> Result<(), Failure> {
        self.0.check_signals()
    }
}
