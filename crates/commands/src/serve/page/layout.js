// Computes a layered layout of a directed acyclic graph.
//
// Vertices are put into layers by their longest distance from a source, edges over several layers get a bend in
// each of them, vertices are ordered so that few edges cross, and then moved towards their neighbours. "Along" is
// the direction of the flow, "across" the other.

const ORDER_SWEEPS = 8;
const POSITION_SWEEPS = 12;

/**
 * @param vertices Objects with `id`, `along` and `across`, their sizes.
 * @param edges Pairs of ids.
 * @param gaps `along` between layers, `across` between vertices.
 * @returns `places`, a map of ids to their upper left corners; `routes`, a list of points for each edge; and the
 *   size of the whole.
 */
function layOut(vertices, edges, gaps) {
  const layers = assignLayers(vertices, edges);
  const { rows, links, chains } = insertBends(vertices, edges, layers);
  orderRows(rows, links);
  positionRows(rows, links, gaps.across);
  return placeAll(rows, chains, gaps.along);
}

function assignLayers(vertices, edges) {
  const layers = new Map(vertices.map(({ id }) => [id, 0]));
  // A chain of all vertices needs the most rounds. The limit also ends a cycle, which no pipeline has.
  for (let round = 0, moved = true; moved && round < vertices.length; round += 1) {
    moved = false;
    for (const [from, to] of edges) {
      if (layers.get(to) < layers.get(from) + 1) {
        layers.set(to, layers.get(from) + 1);
        moved = true;
      }
    }
  }
  return layers;
}

function insertBends(vertices, edges, layers) {
  const rows = [];
  const add = (layer, cell) => {
    (rows[layer] ??= []).push(cell);
    return cell;
  };
  const cells = new Map();
  for (const vertex of vertices) {
    cells.set(vertex.id, add(layers.get(vertex.id), { ...vertex, at: 0 }));
  }
  const links = [];
  const chains = edges.map(([from, to]) => {
    const chain = [cells.get(from)];
    for (let layer = layers.get(from) + 1; layer < layers.get(to); layer += 1) {
      chain.push(add(layer, { id: null, along: 0, across: 0, at: 0 }));
    }
    chain.push(cells.get(to));
    for (let index = 1; index < chain.length; index += 1) {
      links.push([chain[index - 1], chain[index]]);
    }
    return chain;
  });
  return { rows, links, chains };
}

function orderRows(rows, links) {
  number(rows);
  let best = rows.map((row) => [...row]);
  let fewest = countCrossings(links);
  for (let sweep = 0; sweep < ORDER_SWEEPS && fewest > 0; sweep += 1) {
    const isForward = sweep % 2 === 0;
    for (const row of isForward ? rows : [...rows].reverse()) {
      const keys = new Map(
        row.map((cell) => [cell, meanOf(neighbours(cell, links, isForward), "rank") ?? cell.rank]),
      );
      row.sort((one, other) => keys.get(one) - keys.get(other));
      row.forEach((cell, rank) => (cell.rank = rank));
    }
    const crossings = countCrossings(links);
    if (crossings < fewest) {
      fewest = crossings;
      best = rows.map((row) => [...row]);
    }
  }
  rows.splice(0, rows.length, ...best);
  number(rows);
}

function number(rows) {
  rows.forEach((row, layer) => row.forEach((cell, rank) => Object.assign(cell, { layer, rank })));
}

function neighbours(cell, links, before) {
  return before
    ? links.filter(([, to]) => to === cell).map(([from]) => from)
    : links.filter(([from]) => from === cell).map(([, to]) => to);
}

function meanOf(cells, key) {
  return cells.length === 0 ? null : cells.reduce((sum, cell) => sum + cell[key], 0) / cells.length;
}

function countCrossings(links) {
  let count = 0;
  links.forEach(([from, to], index) => {
    for (const [otherFrom, otherTo] of links.slice(index + 1)) {
      if (otherFrom.layer === from.layer && (from.rank - otherFrom.rank) * (to.rank - otherTo.rank) < 0) {
        count += 1;
      }
    }
  });
  return count;
}

/** Compute the centre of each cell across the flow: near its neighbours, without overlaps. */
function positionRows(rows, links, gap) {
  for (const row of rows) {
    separate(
      row,
      row.map(() => 0),
      gap,
    );
  }
  for (let sweep = 0; sweep < POSITION_SWEEPS; sweep += 1) {
    const isForward = sweep % 2 === 0;
    for (const row of isForward ? rows : [...rows].reverse()) {
      separate(
        row,
        row.map((cell) => meanOf(neighbours(cell, links, isForward), "at") ?? cell.at),
        gap,
      );
    }
  }
}

/** Place cells near the wanted positions, by the mean of moving only forwards and moving only backwards. */
function separate(row, wanted, gap) {
  const distance = (index) => (row[index - 1].across + row[index].across) / 2 + gap;
  const forwards = [...wanted];
  const backwards = [...wanted];
  for (let index = 1; index < row.length; index += 1) {
    forwards[index] = Math.max(wanted[index], forwards[index - 1] + distance(index));
  }
  for (let index = row.length - 1; index > 0; index -= 1) {
    backwards[index - 1] = Math.min(wanted[index - 1], backwards[index] - distance(index));
  }
  row.forEach((cell, index) => (cell.at = (forwards[index] + backwards[index]) / 2));
}

function placeAll(rows, chains, gap) {
  const cells = rows.flat();
  const least = Math.min(...cells.map((cell) => cell.at - cell.across / 2));
  const most = Math.max(...cells.map((cell) => cell.at + cell.across / 2));
  let along = 0;
  for (const row of rows) {
    const depth = Math.max(...row.map((cell) => cell.along));
    for (const cell of row) {
      // A bend is as deep as its layer, so that the edge passes straight between the vertices of the layer.
      const own = cell.id === null ? depth : cell.along;
      Object.assign(cell, { along: own, begin: along + (depth - own) / 2, at: cell.at - least });
    }
    along += depth + gap;
  }
  const places = new Map();
  for (const cell of cells.filter(({ id }) => id !== null)) {
    places.set(cell.id, { along: cell.begin, across: cell.at - cell.across / 2 });
  }
  const routes = chains.map((chain) =>
    chain.flatMap((cell, index) => pointsOf(cell, index === 0, index === chain.length - 1)),
  );
  return { places, routes, along: along - gap, across: most - least };
}

function pointsOf(cell, isFirst, isLast) {
  const entry = { along: cell.begin, across: cell.at };
  const exit = { along: cell.begin + cell.along, across: cell.at };
  if (isFirst) {
    return [exit];
  }
  return isLast ? [entry] : [entry, exit];
}
