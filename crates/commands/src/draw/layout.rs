//! Where the nodes of a plan stand in a picture: in layers, with few crossings.

use remotemedia_runtime::Plan;

use super::connections;

/// More bends than this are not worth their time: connections then go straight.
const MAX_BENDS: usize = 5_000;
/// Sweeps over all layers; the picture hardly changes after a few.
const SWEEPS: usize = 6;

/// Places in layers. A place is a node, or a bend where a connection passes a layer.
pub(super) struct Layout {
    /// Each place's layer: how far it is from the input.
    pub(super) layer_of: Vec<usize>,
    /// Each place's position across its layer; neighbours are at least 1 apart.
    pub(super) across: Vec<f64>,
    /// Each connection, as the places that it visits: a node, bends, a node.
    pub(super) paths: Vec<Vec<usize>>,
    /// The number of layers.
    pub(super) depth: usize,
    /// The extent of the widest layer.
    pub(super) breadth: f64,
}

pub(super) fn arrange(plan: &Plan) -> Layout {
    let mut layer_of = vec![0; plan.nodes().len()];
    for (index, node) in plan.nodes().iter().enumerate() {
        layer_of[index] = node.upstreams.iter().map(|&upstream| layer_of[upstream] + 1).max().unwrap_or(0);
    }
    let depth = layer_of.iter().max().map_or(1, |last| last + 1);
    let paths = bent_paths(plan, &mut layer_of);
    let mut layers = vec![Vec::new(); depth];
    for (place, &layer) in layer_of.iter().enumerate() {
        layers[layer].push(place);
    }
    let neighbours = Neighbours::of(&paths, layer_of.len());
    order(&mut layers, &neighbours);
    let across = spread(&layers, &neighbours);
    let breadth = across.iter().copied().fold(0.0, f64::max) + 1.0;
    Layout { layer_of, across, paths, depth, breadth }
}

fn bent_paths(plan: &Plan, layer_of: &mut Vec<usize>) -> Vec<Vec<usize>> {
    let bends: usize = connections(plan).map(|(from, to)| layer_of[to] - layer_of[from] - 1).sum();
    connections(plan)
        .map(|(from, to)| {
            let mut path = vec![from];
            if bends <= MAX_BENDS {
                for layer in layer_of[from] + 1..layer_of[to] {
                    path.push(layer_of.len());
                    layer_of.push(layer);
                }
            }
            path.push(to);
            path
        })
        .collect()
}

struct Neighbours {
    before: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
}

impl Neighbours {
    fn of(paths: &[Vec<usize>], places: usize) -> Self {
        let mut found = Self { before: vec![Vec::new(); places], after: vec![Vec::new(); places] };
        for path in paths {
            for step in path.windows(2) {
                found.after[step[0]].push(step[1]);
                found.before[step[1]].push(step[0]);
            }
        }
        found
    }
}

/// Each layer in turn, down and up several times, with the neighbours of its places in the layer before.
fn sweeps(depth: usize, neighbours: &Neighbours) -> impl Iterator<Item = (usize, &[Vec<usize>])> {
    (0..SWEEPS).flat_map(move |sweep| {
        let is_down = sweep % 2 == 0;
        let near = if is_down { &neighbours.before } else { &neighbours.after };
        (0..depth).map(move |step| (if is_down { step } else { depth - 1 - step }, near.as_slice()))
    })
}

/// Order each layer by the mean position of its neighbours.
fn order(layers: &mut [Vec<usize>], neighbours: &Neighbours) {
    let mut position = vec![0.0; neighbours.before.len()];
    let place_all = |layer: &[usize], position: &mut [f64]| {
        for (at, &place) in layer.iter().enumerate() {
            position[place] = exact(at);
        }
    };
    for layer in &*layers {
        place_all(layer, &mut position);
    }
    for (layer, near) in sweeps(layers.len(), neighbours) {
        layers[layer].sort_by(|&a, &b| mean(&near[a], &position, a).total_cmp(&mean(&near[b], &position, b)));
        place_all(&layers[layer], &mut position);
    }
}

/// Pull each place towards its neighbours without changing the order, at least 1 apart.
fn spread(layers: &[Vec<usize>], neighbours: &Neighbours) -> Vec<f64> {
    let mut across = vec![0.0; neighbours.before.len()];
    for layer in layers {
        let middle = exact(layer.len().saturating_sub(1)) / 2.0;
        for (at, &place) in layer.iter().enumerate() {
            across[place] = exact(at) - middle;
        }
    }
    for (layer, near) in sweeps(layers.len(), neighbours) {
        let wanted: Vec<f64> = layers[layer].iter().map(|&place| mean(&near[place], &across, place)).collect();
        for (&place, at) in layers[layer].iter().zip(apart(&wanted)) {
            across[place] = at;
        }
    }
    let least = across.iter().copied().fold(f64::INFINITY, f64::min);
    across.iter().map(|at| at - least).collect()
}

/// The positions nearest to the wanted ones that keep their order and are at least 1 apart.
///
/// Places that push one another form a block, which stands at the mean of what its members want.
fn apart(wanted: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (at, want) in wanted.iter().enumerate() {
        // Less its index, a place must only not be before the one before it.
        let mut block = (want - exact(at), 1);
        while let Some(last) = blocks.pop_if(|last| last.0 >= block.0) {
            let members = last.1 + block.1;
            block = ((last.0 * exact(last.1) + block.0 * exact(block.1)) / exact(members), members);
        }
        blocks.push(block);
    }
    let flat = blocks.into_iter().flat_map(|(at, members)| std::iter::repeat_n(at, members));
    flat.enumerate().map(|(index, at)| at + exact(index)).collect()
}

fn mean(near: &[usize], position: &[f64], own: usize) -> f64 {
    if near.is_empty() {
        return position[own];
    }
    near.iter().map(|&place| position[place]).sum::<f64>() / exact(near.len())
}

#[allow(clippy::cast_precision_loss, reason = "counts of places stay far below 2^52")]
pub(super) fn exact(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_want_the_same_spot_stand_around_it() {
        assert_eq!(apart(&[2.0, 2.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(apart(&[0.0, 5.0]), [0.0, 5.0]);
    }
}
