//! Where the nodes of a directed graph without cycles stand.

/// Points an edge may be bent at, all edges together; beyond it long edges are straight.
const MAX_BENDS: usize = 20_000;
/// Rounds of ordering the ranks.
const SWEEPS: usize = 8;

/// A layout in columns and rows; (0, 0) is top left.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Column (of the middle) and row of each node.
    pub nodes: Vec<(f64, usize)>,
    /// For each edge, in order, where it passes the rows between its ends.
    pub bends: Vec<Vec<(f64, usize)>>,
    /// Columns of the widest row.
    pub width: f64,
    /// Rows.
    pub height: usize,
}

/// Lays out `count` nodes with `edges` (from, to), each to a later number than from. Edges that are not so are left
/// away by giving them no bends; they still count for nothing.
pub fn layout(count: usize, edges: &[(usize, usize)]) -> Layout {
    let forward = |&&(a, b): &&(usize, usize)| a < b && b < count;
    let mut rank = vec![0usize; count];
    let mut sorted: Vec<(usize, usize)> = edges.iter().filter(forward).copied().collect();
    sorted.sort_unstable();
    for &(a, b) in &sorted {
        rank[b] = rank[b].max(rank[a] + 1);
    }
    // Points: the nodes, then the bends of edges that pass a row.
    let mut points = rank.clone();
    let mut chains: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    for edge in edges {
        let mut chain = Vec::new();
        let passed = if forward(&edge) { rank[edge.0] + 1..rank[edge.1] } else { 0..0 };
        if points.len() - count + passed.len() <= MAX_BENDS {
            for row in passed {
                chain.push(points.len());
                points.push(row);
            }
        }
        chains.push(chain);
    }
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); points.len()];
    let mut after = before.clone();
    for (edge, chain) in edges.iter().zip(&chains).filter(|(edge, _)| forward(edge)) {
        let path: Vec<usize> = [edge.0].iter().chain(chain).chain([&edge.1]).copied().collect();
        for pair in path.windows(2) {
            after[pair[0]].push(pair[1]);
            before[pair[1]].push(pair[0]);
        }
    }
    let height = points.iter().max().map_or(0, |&row| row + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); height];
    for (point, &row) in points.iter().enumerate() {
        rows[row].push(point);
    }
    let mut column = vec![0.0; points.len()];
    rows.iter().for_each(|row| place(row, &mut column));
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let order: Vec<usize> = if down { (0..height).collect() } else { (0..height).rev().collect() };
        for row in order {
            let neighbours = if down { &before } else { &after };
            let wish = |point: usize| match neighbours[point].as_slice() {
                [] => column[point],
                near => near.iter().map(|&n| column[n]).sum::<f64>() / near.len() as f64,
            };
            let mut wishes: Vec<(f64, usize)> = rows[row].iter().map(|&point| (wish(point), point)).collect();
            wishes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            rows[row] = wishes.into_iter().map(|(_, point)| point).collect();
            place(&rows[row], &mut column);
        }
    }
    let widest = rows.iter().map(Vec::len).max().unwrap_or(0) as f64;
    let at = |point: usize| (column[point] + widest / 2.0, points[point]);
    Layout {
        nodes: (0..count).map(at).collect(),
        bends: chains.iter().map(|chain| chain.iter().map(|&point| at(point)).collect()).collect(),
        width: widest,
        height,
    }
}

/// One column each, the row's middle in the middle of the picture.
fn place(row: &[usize], column: &mut [f64]) {
    for (n, &point) in row.iter().enumerate() {
        column[point] = n as f64 + 0.5 - row.len() as f64 / 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_a_row_do_not_share_a_place_and_edges_go_down() {
        // A chain, a residual block, two heads, a lone node, hundreds of parallel branches.
        let wide: Vec<(usize, usize)> = (1..300).flat_map(|n| [(0, n), (n, 300)]).collect();
        let deep: Vec<(usize, usize)> = (0..499).map(|n| (n, n + 1)).chain((0..490).map(|n| (n, n + 9))).collect();
        let cases: &[(usize, &[(usize, usize)])] = &[
            (0, &[]),
            (1, &[]),
            (3, &[(0, 1), (1, 2)]),
            (5, &[(0, 1), (1, 2), (0, 2), (2, 3), (2, 4)]),
            (301, &wide),
            (500, &deep),
        ];
        for &(count, edges) in cases {
            let layout = layout(count, edges);
            let mut places: Vec<(usize, i64)> = layout
                .nodes
                .iter()
                .chain(layout.bends.iter().flatten())
                .map(|&(x, row)| (row, (x * 2.0).round() as i64))
                .collect();
            let all = places.len();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), all, "{count} nodes");
            assert!(layout.nodes.iter().all(|&(x, row)| x > 0.0 && x < layout.width && row < layout.height));
            assert!(edges.iter().all(|&(a, b)| layout.nodes[a].1 < layout.nodes[b].1));
        }
    }

    #[test]
    fn a_skip_passes_beside_the_nodes_it_skips() {
        let layout = layout(4, &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        let bends = &layout.bends[3];
        assert_eq!(bends.len(), 2);
        assert!(bends[0].0 != layout.nodes[1].0 && bends[1].0 != layout.nodes[2].0);
    }

    #[test]
    fn edges_that_go_nowhere_do_no_harm() {
        assert_eq!(layout(2, &[(1, 0), (0, 9), (1, 1)]).height, 1);
    }
}
