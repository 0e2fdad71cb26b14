//! The parts of a node's life.

/// The part of a node's life in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In `initialize`.
    Initialize,
    /// In `process`.
    Process,
    /// In `flush`.
    Flush,
    /// In `cleanup`.
    Cleanup,
}

impl Phase {
    /// The name of the method.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Process => "process",
            Self::Flush => "flush",
            Self::Cleanup => "cleanup",
        }
    }
}
