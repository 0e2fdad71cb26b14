//! The JSON or YAML form of a pipeline.
//!
//! [`Manifest::parse`] reads a text and refuses whatever is wrong with it, naming line and path, before any node exists: a
//! [`Manifest`] that is there can be arranged into a [`Plan`].

mod json;
mod read;
mod tree;
mod yaml;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::plan::{ById, Described, NodeSpec, Plan, PlanOrder};

/// The JSON Schema of a manifest.
pub const SCHEMA: &str = include_str!("schema.json");

/// The version that this runtime reads and writes.
pub const VERSION: &str = "v1";

/// A pipeline as a text describes it, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    name: String,
    nodes: Vec<ManifestNode>,
    connections: Option<Vec<Connection>>,
    ignored: Vec<String>,
    /// There as soon as the whole is checked.
    order: Option<Arc<PlanOrder>>,
}

/// One node of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestNode {
    /// Unique in the manifest; where none is written, `<node_type>_<index>`.
    pub id: String,
    /// A registered name, or `module:Class`.
    pub node_type: String,
    /// The arguments of its constructor, in the order in which they are written.
    pub params: Map<String, Value>,
    /// The options that are written, each of them known and in range.
    pub options: Map<String, Value>,
    /// Whether the outputs of its upstream nodes arrive joined into one item an input.
    pub join: bool,
    /// The same, read.
    pub how: Arc<Options>,
    /// The line on which it begins.
    pub line: usize,
    /// The line of its `node_type`.
    pub node_type_line: usize,
    /// The line of its `params`; where it has none, the one on which it begins.
    pub params_line: usize,
}

/// Outputs of one node that are items of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The id of the node that emits.
    pub from: String,
    /// The id of the node that receives.
    pub to: String,
    /// The line on which it begins.
    pub line: usize,
}

impl Manifest {
    /// The manifest in a text: JSON if its first character is `{` or `[`, else YAML.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let tree = match text.trim_start().chars().next() {
            None => {
                let message = format!("the text is empty; a manifest has a version (\"{VERSION}\") and nodes");
                return Err(Error::Manifest { place: "line 1".to_owned(), message });
            }
            Some('{' | '[') => json::read(text)?,
            Some(_) => yaml::read(text)?,
        };
        let (mut manifest, places) = read::manifest(tree)?;
        match PlanOrder::of(&manifest.name, &manifest.described()) {
            Ok(order) => manifest.order = Some(Arc::new(order)),
            Err(error) => return Err(manifest.located(&error, &places)),
        }
        manifest.check_groups().map_err(|error| manifest.located(&error, &places))?;
        Ok(manifest)
    }

    /// Refuse groups that cannot be one stage.
    fn check_groups(&self) -> Result<()> {
        if self.nodes.iter().any(|node| node.how.group.is_some()) {
            Plan::arranged(self.name.as_str(), self.specs(), self.order())?;
        }
        Ok(())
    }

    /// The ids with those they come after.
    fn described(&self) -> Vec<Described<'_>> {
        let mut after: ById<'_, Vec<&str>> = ById::default();
        after.reserve(self.connections().map_or(0, <[_]>::len));
        for connection in self.connections.iter().flatten() {
            after.entry(&connection.to).or_default().push(&connection.from);
        }
        let mut previous: Option<&str> = None;
        let mut described = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let id = node.id.as_str();
            let upstreams = match self.connections {
                // A second node of this id is refused.
                Some(_) => after.remove(id).unwrap_or_default(),
                None => previous.into_iter().collect(),
            };
            described.push((id, upstreams));
            previous = Some(id);
        }
        described
    }

    /// How the nodes depend on each other, for [`Plan::arranged`](crate::Plan::arranged).
    ///
    /// # Panics
    /// Never: a manifest that is there has an order.
    pub fn order(&self) -> &Arc<PlanOrder> {
        self.order.as_ref().expect("a manifest without an order is refused")
    }

    /// The same without its connections, where the [order](Manifest::order) is all that is needed of them.
    #[must_use]
    pub fn without_connections(self) -> Self {
        Self { connections: None, ..self }
    }

    /// The name of the pipeline.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes, in the order in which they are written.
    pub fn nodes(&self) -> &[ManifestNode] {
        &self.nodes
    }

    /// The connections, or `None` where the nodes form a chain in their order.
    pub fn connections(&self) -> Option<&[Connection]> {
        self.connections.as_deref()
    }

    /// The paths of fields that are accepted from older manifests and have no effect, such as `nodes[0].host`.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The nodes with what each comes after, for [`Plan::new`](crate::Plan::new).
    pub fn specs(&self) -> Vec<NodeSpec> {
        let id_of = |&position: &usize| self.nodes[position].id.clone();
        let spec = |(position, node): (usize, &ManifestNode)| NodeSpec {
            id: node.id.clone(),
            node_type: node.node_type.clone(),
            after: self.order().upstreams(position).iter().map(id_of).collect(),
            join: node.join,
            options: Arc::clone(&node.how),
        };
        self.nodes.iter().enumerate().map(spec).collect()
    }

    /// The manifest as JSON, with its fields in a fixed order.
    pub fn to_json_value(&self) -> Value {
        let nodes: Vec<Value> = self.nodes.iter().map(node_value).collect();
        let mut value = json!({ "version": VERSION, "metadata": { "name": self.name }, "nodes": nodes });
        if let Some(connections) = &self.connections {
            value["connections"] =
                connections.iter().map(|Connection { from, to, .. }| json!({ "from": from, "to": to })).collect();
        }
        value
    }

    /// The error of the plan, at the place in the text that is to blame.
    fn located(&self, error: &Error, places: &read::Places) -> Error {
        let connections = || self.connections.iter().flatten().enumerate();
        let at = |line: usize, path: String| Error::Manifest {
            place: format!("line {line}, {path}"),
            message: error.to_string(),
        };
        match error {
            Error::DuplicateId { id } => {
                let mut same = self.nodes.iter().enumerate().filter(|(_, node)| node.id == *id);
                let (index, node) = same.nth(1).expect("two nodes have this id");
                at(node.line, format!("nodes[{index}].id"))
            }
            Error::Group { second, .. } => {
                let mut nodes = self.nodes.iter().enumerate();
                let (index, node) = nodes.find(|(_, node)| node.id == *second).expect("a member of a group is a node");
                at(node.line, format!("nodes[{index}].options.group"))
            }
            Error::UnknownUpstream { node, upstream, .. } => {
                let guilty = connections().find(|(_, edge)| edge.to == *node && edge.from == *upstream);
                let (index, connection) = guilty.expect("an unknown id comes from a connection");
                at(connection.line, format!("connections[{index}].from"))
            }
            Error::Cycle { path } => {
                let guilty = connections().find(|(_, edge)| path.starts_with(&format!("{} → {}", edge.from, edge.to)));
                match guilty {
                    Some((index, connection)) => at(connection.line, format!("connections[{index}]")),
                    None => at(places.connections, "connections".to_owned()),
                }
            }
            _ => at(places.nodes, "nodes".to_owned()),
        }
    }
}

fn node_value(node: &ManifestNode) -> Value {
    let mut value = json!({ "id": node.id, "node_type": node.node_type, "params": node.params });
    if !node.options.is_empty() {
        value["options"] = Value::Object(node.options.clone());
    }
    if node.join {
        value["join"] = Value::Bool(true);
    }
    value
}

#[cfg(test)]
mod tests;
