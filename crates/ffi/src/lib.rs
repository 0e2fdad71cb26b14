//! Python objects as nodes of the runtime.
