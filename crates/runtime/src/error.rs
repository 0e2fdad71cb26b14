//! Everything that can be wrong with a pipeline before it starts.

use thiserror::Error;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a pipeline or a manifest was refused. No node has been touched.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is nothing to run.
    #[error("pipeline '{pipeline}' has no nodes; add at least one")]
    EmptyPipeline {
        /// The name of the pipeline.
        pipeline: String,
    },
    /// Two nodes have the same id.
    #[error("two nodes have the id '{id}'; give each node its own id")]
    DuplicateId {
        /// The id that stands twice.
        id: String,
    },
    /// A connection names a node that does not exist.
    #[error("node '{node}' comes after '{upstream}', but no node has that id{hint}")]
    UnknownUpstream {
        /// The node that is to receive.
        node: String,
        /// The id that names nothing.
        upstream: String,
        /// A nearby id, as the end of the sentence, or nothing.
        hint: String,
    },
    /// A node would wait for itself.
    #[error("the connections form a cycle: {path}")]
    Cycle {
        /// The ids along the cycle, the first one repeated at the end.
        path: String,
    },
    /// Nodes of one group cannot share a stage.
    #[error("nodes '{first}' and '{second}' are in group '{group}', but {problem}")]
    Group {
        /// The name of the group.
        group: String,
        /// The first node of the group.
        first: String,
        /// The node that does not fit it.
        second: String,
        /// What keeps them apart, and what to do.
        problem: String,
    },
    /// A source has something before it, or stands beside other starts.
    #[error(
        "node '{node}' is a source (its process() takes no item), so it must be the only node at the start of its pipeline"
    )]
    MisplacedSource {
        /// The source.
        node: String,
    },
    /// The text is not a manifest.
    #[error("{place}: {message}")]
    Manifest {
        /// Where: `line 3, nodes[1].node_type`.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A native node does not exist or its parameters do not fit.
    #[error("node '{node}': {message}")]
    NativeNode {
        /// The id of the node.
        node: String,
        /// What is wrong.
        message: String,
    },
}
