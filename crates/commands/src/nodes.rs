//! `nodes`: what the registry has.

use remotemedia_runtime::did_you_mean;
use serde::Serialize;

use crate::cli::NodesOptions;
use crate::failure::Failure;
use crate::loader::{Loader, NodeDoc, ParameterDoc};
use crate::table::columns;
use crate::terminal;

/// Print the list of nodes, or all about one.
pub(crate) fn nodes(options: &NodesOptions, loader: &dyn Loader) -> Result<u8, Failure> {
    let nodes = loader.nodes()?;
    let text = match &options.name {
        None if options.json => json(&nodes),
        None => list(&nodes),
        Some(name) => {
            let node = find(&nodes, name)?;
            if options.json { json(node) } else { description(node) }
        }
    };
    terminal::print(&text)?;
    Ok(0)
}

fn find<'a>(nodes: &'a [NodeDoc], name: &str) -> Result<&'a NodeDoc, Failure> {
    let has_name = |node: &&NodeDoc| node.name == name || node.aliases.iter().any(|alias| alias == name);
    nodes.iter().find(has_name).ok_or_else(|| {
        let known = nodes.iter().flat_map(|node| node.aliases.iter().chain([&node.name]));
        let hint = did_you_mean(name, known.map(String::as_str));
        let hint = if hint.is_empty() { "; the command `nodes` lists all nodes" } else { &hint };
        Failure::usage(format!("no node '{name}' is registered{hint}"))
    })
}

fn json(shown: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(shown).expect("names and texts are always JSON");
    text.push('\n');
    text
}

fn list(nodes: &[NodeDoc]) -> String {
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let parameters: Vec<&str> = node.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
            vec![format!("{}({})", node.name, parameters.join(", ")), first_line(&node.doc)]
        })
        .collect();
    columns(&rows, &[], "")
}

fn first_line(doc: &str) -> String {
    doc.trim().lines().next().unwrap_or_default().to_owned()
}

fn description(node: &NodeDoc) -> String {
    let parameters: Vec<String> = node.parameters.iter().map(signature).collect();
    let mut text = format!("{}({})\n", node.name, parameters.join(", "));
    for line in node.doc.trim().lines() {
        text += format!("  {line}").trim_end();
        text.push('\n');
    }
    if node.parameters.iter().any(|parameter| !parameter.doc.is_empty()) {
        text += "\nparameters\n";
        let rows: Vec<Vec<String>> = node
            .parameters
            .iter()
            .map(|parameter| vec![parameter.name.clone(), parameter.doc.replace('\n', " ")])
            .collect();
        text += &columns(&rows, &[], "  ");
    }
    if !node.aliases.is_empty() {
        text += &format!("\nalso known as {}\n", node.aliases.join(", "));
    }
    text
}

/// `operation: str = 'add'`, as Python writes it.
fn signature(parameter: &ParameterDoc) -> String {
    let mut text = parameter.name.clone();
    if let Some(annotation) = &parameter.annotation {
        text += &format!(": {annotation}");
    }
    if let Some(default) = &parameter.default {
        let equals = if parameter.annotation.is_some() { " = " } else { "=" };
        text += &format!("{equals}{default}");
    }
    text
}
