//! What a host does with a pipeline.
