//! Connections as vertical rails beside a list of nodes, as version control draws its history.

use remotemedia_runtime::Plan;

use super::is_queue;

/// One connection on its way down.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Connection {
    /// The node that receives.
    to: usize,
    /// Whether items wait on the way.
    is_queue: bool,
}

type Rail = Option<Connection>;

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

/// A line of the picture.
pub(super) struct Row {
    /// The rails, two columns each.
    pub(super) rails: String,
    /// The node that stands on this line.
    pub(super) node: Option<usize>,
}

/// The rows for a plan, or nothing if they would need more than `limit` rails side by side.
pub(super) fn rows(plan: &Plan, limit: usize) -> Option<Vec<Row>> {
    let mut rails: Vec<Rail> = Vec::new();
    let mut rows = Vec::new();
    for (index, node) in plan.nodes().iter().enumerate() {
        let arriving: Vec<usize> =
            (0..rails.len()).filter(|&column| rails[column].is_some_and(|rail| rail.to == index)).collect();
        let column = arriving.first().copied().unwrap_or_else(|| free_column(&mut rails, 0));
        let is_after_node = rows.last().is_some_and(|row: &Row| row.node.is_some());
        let has_queue = arriving.iter().any(|&column| rails[column].is_some_and(|rail| rail.is_queue));
        if has_queue || (is_after_node && arriving.len() < 2) {
            rows.push(Row { rails: plain_row(&rails), node: None });
        }
        if arriving.len() > 1 {
            rows.push(Row { rails: bridge_row(&rails, &arriving, UP), node: None });
        }
        for &merged in &arriving {
            rails[merged] = None;
        }
        rows.push(Row { rails: node_row(&rails, column, symbol(plan, index)), node: Some(index) });

        // Before they are laid, or a node with very many of them would take very long.
        if node.downstreams.len() + rails.len() > 2 * limit {
            return None;
        }
        let mut leaving = Vec::with_capacity(node.downstreams.len());
        for (nth, &downstream) in node.downstreams.iter().enumerate() {
            let taken = if nth == 0 { column } else { free_column(&mut rails, column + 1) };
            rails[taken] = Some(Connection { to: downstream, is_queue: is_queue(plan, index, downstream) });
            leaving.push(taken);
        }
        if leaving.len() > 1 {
            rows.push(Row { rails: bridge_row(&rails, &leaving, DOWN), node: None });
        }
        while rails.last() == Some(&None) {
            rails.pop();
        }
        if rails.len() > limit {
            return None;
        }
    }
    Some(rows)
}

fn free_column(rails: &mut Vec<Rail>, from: usize) -> usize {
    if let Some(column) = (from..rails.len()).find(|&column| rails[column].is_none()) {
        return column;
    }
    rails.push(None);
    rails.len() - 1
}

fn symbol(plan: &Plan, index: usize) -> char {
    if plan.nodes()[index].join { '◆' } else { '●' }
}

fn plain_row(rails: &[Rail]) -> String {
    let line: String = rails.iter().flat_map(|rail| [upright(*rail), ' ']).collect();
    line.trim_end().to_owned()
}

fn upright(rail: Rail) -> char {
    rail.map_or(' ', |rail| if rail.is_queue { '┊' } else { '│' })
}

fn node_row(rails: &[Rail], column: usize, symbol: char) -> String {
    let width = rails.len().max(column + 1);
    let line: String = (0..width)
        .map(|at| match rails.get(at) {
            _ if at == column => format!("{symbol} "),
            rail => format!("{} ", upright(rail.copied().flatten())),
        })
        .collect();
    line.trim_end().to_owned()
}

/// Rails that end in the leftmost of them (`UP`), or begin at it (`DOWN`).
fn bridge_row(rails: &[Rail], columns: &[usize], end: u8) -> String {
    let mut cells: Vec<u8> = rails.iter().map(|rail| if rail.is_some() { UP | DOWN } else { 0 }).collect();
    for &column in &columns[1..] {
        cells[column] = end;
    }
    let (first, last) = (columns[0], columns[columns.len() - 1]);
    for (column, cell) in cells.iter_mut().enumerate().take(last + 1).skip(first) {
        *cell |= if column > first { LEFT } else { 0 } | if column < last { RIGHT } else { 0 };
    }
    drawn(&cells)
}

fn drawn(cells: &[u8]) -> String {
    let mut line = String::new();
    for &cell in cells {
        line.push(corner(cell));
        line.push(if cell & RIGHT > 0 { '─' } else { ' ' });
    }
    line.trim_end().to_owned()
}

fn corner(cell: u8) -> char {
    const UP_DOWN: u8 = UP | DOWN;
    const LEFT_RIGHT: u8 = LEFT | RIGHT;
    match (cell & UP_DOWN, cell & LEFT_RIGHT) {
        (0, 0) => ' ',
        (0, _) => '─',
        (_, 0) => '│',
        (UP, LEFT) => '╯',
        (UP, RIGHT) => '╰',
        (UP, _) => '┴',
        (DOWN, LEFT) => '╮',
        (DOWN, RIGHT) => '╭',
        (DOWN, _) => '┬',
        (_, LEFT) => '┤',
        (_, RIGHT) => '├',
        _ => '┼',
    }
}
