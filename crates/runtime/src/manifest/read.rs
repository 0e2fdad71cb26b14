//! Takes a [`Tree`] for a manifest: which fields there are, and what may stand in them.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde_json::Value;

use super::tree::{Content, Path, Tree, refused};
use super::{Connection, Manifest, ManifestNode, VERSION};
use crate::error::Result;
use crate::options::Options;
use crate::suggest::did_you_mean;

pub(super) const ROOT_FIELDS: [&str; 4] = ["version", "metadata", "nodes", "connections"];
pub(super) const NODE_FIELDS: [&str; 5] = ["id", "node_type", "params", "options", "join"];
pub(super) const CONNECTION_FIELDS: [&str; 2] = ["from", "to"];

/// Fields of the older v1 that say nothing to this runtime, beside the nodes and in each of them.
pub(super) const OLDER_FIELDS: [&str; 9] = [
    "capabilities",
    "description",
    "docker",
    "execution",
    "executor",
    "host",
    "is_output_node",
    "is_streaming",
    "runtime_hint",
];

/// The lines of the lists, for errors about them as a whole.
pub(super) struct Places {
    pub(super) nodes: usize,
    pub(super) connections: usize,
}

pub(super) fn manifest(tree: Tree<'_>) -> Result<(Manifest, Places)> {
    let root = Path::Root;
    let line = tree.line;
    if !matches!(tree.content, Content::Object(_)) {
        return Err(tree.unexpected("a manifest (an object with version and nodes)", &root));
    }
    let mut ignored = Vec::new();
    let (mut version, mut metadata, mut nodes, mut connections) = (None, None, None, None);
    for (name, field) in tree.into_object(&root)? {
        match &*name {
            "version" => version = Some(field),
            "metadata" => metadata = Some(field),
            "nodes" => nodes = Some(field),
            "connections" => connections = Some(field),
            _ => ignored.push(older_field(&name, &field, &root, &ROOT_FIELDS)?),
        }
    }
    check_version(version, line)?;
    let name = metadata.map_or_else(|| Ok(None), |field| read_metadata(field, &mut ignored))?;
    let Some(nodes) = nodes else {
        return Err(refused(line, &root.field("nodes"), "missing; add the list of nodes"));
    };
    let places = Places { nodes: nodes.line, connections: connections.as_ref().map_or(line, |field| field.line) };
    let nodes = read_nodes(nodes, &mut ignored)?;
    let connections = connections.map(|field| read_connections(field, &nodes)).transpose()?;
    let name = name.unwrap_or_else(|| "pipeline".to_owned());
    Ok((Manifest { name, nodes, connections, ignored, order: None }, places))
}

fn check_version(version: Option<Tree<'_>>, line: usize) -> Result<()> {
    let path = Path::Field(&Path::Root, "version");
    let Some(version) = version else {
        return Err(refused(line, &path, format!("missing; add \"version\": \"{VERSION}\"")));
    };
    match &version.content {
        Content::Text(text) if text == VERSION => Ok(()),
        _ => Err(version.unexpected(&format!("\"{VERSION}\""), &path)),
    }
}

/// The name of the pipeline. What else stands in `metadata` is free.
fn read_metadata(tree: Tree<'_>, ignored: &mut Vec<String>) -> Result<Option<String>> {
    let path = Path::Field(&Path::Root, "metadata");
    let mut found = None;
    for (name, field) in tree.into_object(&path)? {
        let path = path.field(&name);
        if name == "name" {
            found = Some(field.into_text(&path)?);
        } else {
            ignored.push(path.to_string());
        }
    }
    Ok(found)
}

fn read_nodes(tree: Tree<'_>, ignored: &mut Vec<String>) -> Result<Vec<ManifestNode>> {
    let path = Path::Field(&Path::Root, "nodes");
    let entries = tree.into_list(&path)?;
    let mut nodes: Vec<ManifestNode> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let node = read_node(entry, &path.element(index), (index, nodes.last()), ignored)?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn read_node(
    tree: Tree<'_>,
    path: &Path<'_>,
    (index, before): (usize, Option<&ManifestNode>),
    ignored: &mut Vec<String>,
) -> Result<ManifestNode> {
    let line = tree.line;
    if !matches!(tree.content, Content::Object(_)) {
        return Err(tree.unexpected("a node (an object with node_type and params)", path));
    }
    let (mut id, mut node_type) = (None, None);
    let (mut params, mut options) = Default::default();
    let (mut join, mut how) = (false, Options::shared_default());
    let (mut node_type_line, mut params_line) = (line, line);
    for (name, field) in tree.into_object(path)? {
        let field_path = path.field(&name);
        match &*name {
            "id" => id = Some(field.into_name(&field_path)?),
            "node_type" => {
                node_type_line = field.line;
                node_type = Some(field.into_name(&field_path)?);
            }
            "params" => {
                params_line = field.line;
                params = field.into_map(&field_path)?;
            }
            "options" => (options, how) = read_options(field, &field_path, before)?,
            "join" => join = field.into_bool(&field_path)?,
            _ => ignored.push(older_field(&name, &field, path, &NODE_FIELDS)?),
        }
    }
    let Some(node_type) = node_type else {
        return Err(refused(
            line,
            &path.field("node_type"),
            "missing; add the type of the node, such as \"PassThroughNode\"",
        ));
    };
    let id = id.unwrap_or_else(|| default_id(&node_type, index));
    Ok(ManifestNode { id, node_type, params, options, join, how, line, node_type_line, params_line })
}

/// The name of the class, without its module, and the position.
fn default_id(node_type: &str, index: usize) -> String {
    let name = node_type.rsplit_once(':').map_or(node_type, |(_, class)| class);
    format!("{name}_{index}")
}

/// `before` are the options of the node before, which most nodes share.
fn read_options(
    tree: Tree<'_>,
    path: &Path<'_>,
    before: Option<&ManifestNode>,
) -> Result<(serde_json::Map<String, Value>, Arc<Options>)> {
    let lines = tree.field_lines();
    let written = tree.into_map(path)?;
    if let Some(before) = before.filter(|before| before.options == written) {
        return Ok((written, Arc::clone(&before.how)));
    }
    let options = Options::from_json(&written).map_err(|problem| {
        let line = lines.iter().find(|(name, _)| *name == problem.name).map_or(0, |(_, line)| *line);
        refused(line, &path.field(&problem.name), problem.message())
    })?;
    Ok((written, Arc::new(options)))
}

fn read_connections(tree: Tree<'_>, nodes: &[ManifestNode]) -> Result<Vec<Connection>> {
    let path = Path::Field(&Path::Root, "connections");
    let ids: HashSet<&str, RandomState> = nodes.iter().map(|node| node.id.as_str()).collect();
    let mut connections = Vec::new();
    for (index, entry) in tree.into_list(&path)?.into_iter().enumerate() {
        let path = path.element(index);
        let connection = read_connection(entry, &path)?;
        if !ids.contains(connection.to.as_str()) {
            let hint = did_you_mean(&connection.to, nodes.iter().map(|node| node.id.as_str()));
            let message = format!("no node has the id '{}'{hint}", connection.to);
            return Err(refused(connection.line, &path.field("to"), message));
        }
        connections.push(connection);
    }
    Ok(connections)
}

fn read_connection(tree: Tree<'_>, path: &Path<'_>) -> Result<Connection> {
    let line = tree.line;
    let (mut from, mut to) = (None, None);
    for (name, field) in tree.into_object(path)? {
        let field_path = path.field(&name);
        match &*name {
            "from" => from = Some(field.into_name(&field_path)?),
            "to" => to = Some(field.into_name(&field_path)?),
            _ => return Err(refused(field.line, &field_path, unknown("field", &name, &CONNECTION_FIELDS))),
        }
    }
    let missing =
        |name| refused(line, &path.field(name), "missing; a connection has \"from\" and \"to\", the ids of two nodes");
    Ok(Connection { from: from.ok_or_else(|| missing("from"))?, to: to.ok_or_else(|| missing("to"))?, line })
}

/// The path of a field that is accepted and has no effect, or the error about an unknown one.
fn older_field(name: &str, field: &Tree<'_>, parent: &Path<'_>, known: &[&str]) -> Result<String> {
    let path = parent.field(name);
    if OLDER_FIELDS.contains(&name) {
        Ok(path.to_string())
    } else {
        Err(refused(field.line, &path, unknown("field", name, known)))
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = did_you_mean(name, known.iter().copied());
    if hint.is_empty() {
        format!("unknown {what}; known: {}", known.join(", "))
    } else {
        format!("unknown {what}{hint}")
    }
}
