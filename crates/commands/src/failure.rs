//! Why a command ends before its work is done.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Why a command ends before its work is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the exit code is to be.
    pub kind: FailureKind,
    /// What went wrong, where, and what to do about it: a sentence, or a few lines.
    pub message: String,
    /// The part of a Python traceback that lies in the user's code.
    pub traceback: Option<String>,
    /// The whole traceback, shown with `--traceback`.
    pub full_traceback: Option<String>,
    /// The error of the loader that this stands for, for a program that knows its type.
    pub cause: Option<Cause>,
}

/// An error of any type. It is equal only to itself.
#[derive(Clone)]
pub struct Cause(pub Arc<dyn Any + Send + Sync>);

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Cause {}

impl fmt::Debug for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cause")
    }
}

/// The ways in which a command ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The command line asks for something that does not exist or fit.
    Usage,
    /// The pipeline, its input or its output failed.
    Failed,
    /// Ctrl-C (SIGINT).
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// The reader of stdout went away, as `head` does: no failure in the eyes of the user.
    OutputClosed,
    /// The user's code ended the program with this exit code.
    Exited(u8),
}

impl Failure {
    /// Wrong use of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// The pipeline, its input or its output failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Failed, message)
    }

    /// A failure of any kind, without a traceback.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), traceback: None, full_traceback: None, cause: None }
    }

    /// Whether the user wants the program to end, rather than something being wrong.
    pub fn is_order_to_stop(&self) -> bool {
        matches!(self.kind, FailureKind::Interrupted | FailureKind::Terminated)
    }

    /// The same failure with one more line to its message.
    #[must_use]
    pub(crate) fn and(mut self, line: &str) -> Self {
        self.message += "\n";
        self.message += line;
        self
    }
}

impl FailureKind {
    /// The exit code of a command that ends so.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Exited(code) => code,
        }
    }
}
