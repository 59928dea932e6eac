//! Places for the boxes of a picture: in layers, so that every arrow leads down, with few crossings and straight long arrows.
//!
//! 1. Layers: each box one below the lowest of those it needs; what needs nothing, just above its first use. An arrow that passes
//!    layers gets a *bend* in each, which takes part in all that follows like a box without width.
//! 2. Order in the layers: sweeps down and up, each box to the mean of its neighbours in the layer before; the best order is kept.
//! 3. Places: each box to the mean of its neighbours as far as order and distances allow, which is a least-squares problem
//!    that pooling neighbours solves exactly.

use super::picture::Arrow;

/// The space between boxes of one layer, and between layers.
const GAP: (f64, f64) = (26.0, 52.0);

/// How often layers are put in order, and how often places are improved.
const SWEEPS: usize = 16;

/// How strongly arrows that pass layers insist on being straight.
const BEND_WEIGHT: f64 = 4.0;

/// A box with its place: the middle of its upper side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Placed {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Where everything is.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub(super) boxes: Vec<Placed>,
    /// For each arrow the places of its bends, from its start to its end: the middle above and below.
    pub(super) bends: Vec<Vec<Placed>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A box or a bend.
struct Item {
    width: f64,
    height: f64,
    weight: f64,
    layer: usize,
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Finds places for boxes of these sizes. Arrows lead from earlier boxes to later ones.
pub(super) fn layout(sizes: &[(f64, f64)], arrows: &[Arrow]) -> Layout {
    let layers = layers(sizes.len(), arrows);
    let mut items: Vec<Item> = sizes
        .iter()
        .zip(&layers)
        .map(|((width, height), layer)| Item::new(*width, *height, *layer))
        .collect();
    let chains: Vec<Vec<usize>> = arrows.iter().map(|arrow| connect(&mut items, *arrow)).collect();
    let mut order = vec![Vec::new(); layers.iter().max().map_or(0, |last| last + 1)];
    for (number, item) in items.iter().enumerate() {
        if let Some(layer) = order.get_mut(item.layer) {
            layer.push(number);
        }
    }
    uncross(&items, &mut order);
    place(&mut items, &order);
    finish(&items, &order, sizes.len(), &chains)
}

impl Item {
    const fn new(width: f64, height: f64, layer: usize) -> Self {
        Self {
            width,
            height,
            weight: 1.0,
            layer,
            x: 0.0,
            above: Vec::new(),
            below: Vec::new(),
        }
    }
}

fn layers(count: usize, arrows: &[Arrow]) -> Vec<usize> {
    let mut layers = vec![0_usize; count];
    let mut by_end: Vec<&Arrow> = arrows.iter().collect();
    by_end.sort_by_key(|arrow| arrow.to);
    for arrow in by_end {
        let from = layers.get(arrow.from).copied().unwrap_or_default();
        if let Some(layer) = layers.get_mut(arrow.to) {
            *layer = (*layer).max(from + 1);
        }
    }
    for start in 0..count {
        if arrows.iter().any(|arrow| arrow.to == start) {
            continue;
        }
        let uses = arrows.iter().filter(|arrow| arrow.from == start);
        let first = uses.filter_map(|arrow| layers.get(arrow.to)).min().copied();
        if let (Some(first), Some(layer)) = (first, layers.get_mut(start)) {
            *layer = first.saturating_sub(1);
        }
    }
    layers
}

/// Adds an arrow, and a bend for each layer that it passes. Returns the bends.
fn connect(items: &mut Vec<Item>, arrow: Arrow) -> Vec<usize> {
    let layer = |items: &[Item], number: usize| items.get(number).map_or(0, |item| item.layer);
    let (start, end) = (layer(items, arrow.from), layer(items, arrow.to));
    let mut bends = Vec::new();
    for layer in start + 1..end {
        bends.push(items.len());
        items.push(Item {
            weight: BEND_WEIGHT,
            ..Item::new(0.0, 0.0, layer)
        });
    }
    let way: Vec<usize> = [arrow.from].into_iter().chain(bends.iter().copied()).chain([arrow.to]).collect();
    for pair in way.windows(2) {
        if let [from, to] = pair {
            items.get_mut(*from).into_iter().for_each(|item| item.below.push(*to));
            items.get_mut(*to).into_iter().for_each(|item| item.above.push(*from));
        }
    }
    bends
}

fn neighbours(items: &[Item], number: usize, down: bool) -> &[usize] {
    items
        .get(number)
        .map_or(&[], |item| if down { item.above.as_slice() } else { item.below.as_slice() })
}

fn positions(count: usize, order: &[Vec<usize>]) -> Vec<f64> {
    let mut positions = vec![0.0; count];
    for layer in order {
        let mut position = 0.0;
        for number in layer {
            positions.get_mut(*number).into_iter().for_each(|place| *place = position);
            position += 1.0;
        }
    }
    positions
}

fn mean(numbers: &[usize], places: &[f64]) -> Option<f64> {
    let known: Vec<f64> = numbers.iter().filter_map(|number| places.get(*number)).copied().collect();
    let count = u32::try_from(known.len()).ok().filter(|count| *count > 0)?;
    Some(known.iter().sum::<f64>() / f64::from(count))
}

fn uncross(items: &[Item], order: &mut Vec<Vec<usize>>) {
    let mut best = (crossings(items, order), order.clone());
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let mut layers: Vec<usize> = (0..order.len()).collect();
        if !down {
            layers.reverse();
        }
        for layer in layers {
            let places = positions(items.len(), order);
            if let Some(layer) = order.get_mut(layer) {
                let wish = |number: &usize| {
                    let own = places.get(*number).copied().unwrap_or_default();
                    mean(neighbours(items, *number, down), &places).unwrap_or(own)
                };
                layer.sort_by(|left, right| wish(left).total_cmp(&wish(right)));
            }
        }
        let now = crossings(items, order);
        if now < best.0 {
            best = (now, order.clone());
        }
    }
    *order = best.1;
}

fn crossings(items: &[Item], order: &[Vec<usize>]) -> usize {
    let places = positions(items.len(), order);
    let place = |number: usize| places.get(number).copied().unwrap_or_default();
    let mut count = 0;
    for layer in order {
        let mut lines: Vec<(f64, f64)> = Vec::new();
        for number in layer {
            let ends = neighbours(items, *number, false).iter();
            lines.extend(ends.map(|end| (place(*number), place(*end))));
        }
        for (position, left) in lines.iter().enumerate() {
            let crossed = |right: &&(f64, f64)| (left.0 < right.0 && left.1 > right.1) || (left.0 > right.0 && left.1 < right.1);
            count += lines.iter().skip(position + 1).filter(crossed).count();
        }
    }
    count
}

fn place(items: &mut [Item], order: &[Vec<usize>]) {
    for layer in order {
        spread(items, layer, |_| None);
    }
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let mut layers: Vec<&Vec<usize>> = order.iter().collect();
        if !down {
            layers.reverse();
        }
        let places = |items: &[Item]| items.iter().map(|item| item.x).collect::<Vec<_>>();
        for layer in layers {
            let places = places(items);
            let wishes: Vec<Option<f64>> = layer
                .iter()
                .map(|number| {
                    // The last sweeps look at both sides, so that nothing hangs over to one.
                    let both = sweep + 4 >= SWEEPS;
                    let above = neighbours(items, *number, true);
                    let below = neighbours(items, *number, false);
                    let near: Vec<usize> = match (both, down) {
                        (true, _) => above.iter().chain(below).copied().collect(),
                        (false, true) => above.to_vec(),
                        (false, false) => below.to_vec(),
                    };
                    mean(&near, &places)
                })
                .collect();
            spread(items, layer, |position| wishes.get(position).copied().flatten());
        }
    }
}

/// Moves the items of a layer as near to their wishes as their order and distances allow.
fn spread(items: &mut [Item], layer: &[usize], wish: impl Fn(usize) -> Option<f64>) {
    // With the distances taken out, what is left is to be in rising order: neighbours that are not are pooled at their mean.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    let mut offsets = Vec::with_capacity(layer.len());
    let mut offset = 0.0;
    let mut last_half = None;
    for (position, number) in layer.iter().enumerate() {
        let Some(item) = items.get(*number) else { continue };
        let half = item.width / 2.0;
        offset += last_half.map_or(0.0, |last: f64| last + GAP.0 + half);
        last_half = Some(half);
        offsets.push(offset);
        let mut pool = (wish(position).unwrap_or(item.x) - offset, item.weight, 1);
        while let Some(before) = pools.pop_if(|before| before.0 > pool.0) {
            let weight = before.1 + pool.1;
            pool = ((before.0 * before.1 + pool.0 * pool.1) / weight, weight, before.2 + pool.2);
        }
        pools.push(pool);
    }
    let places = pools.iter().flat_map(|(place, _, count)| std::iter::repeat_n(*place, *count));
    for ((number, place), offset) in layer.iter().zip(places).zip(offsets) {
        items.get_mut(*number).into_iter().for_each(|item| item.x = place + offset);
    }
}

fn finish(items: &[Item], order: &[Vec<usize>], boxes: usize, chains: &[Vec<usize>]) -> Layout {
    let left = items.iter().map(|item| item.x - item.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = items.iter().map(|item| item.x + item.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let mut tops = Vec::with_capacity(order.len());
    let mut heights = Vec::with_capacity(order.len());
    let mut y = 0.0;
    for layer in order {
        let height = layer
            .iter()
            .filter_map(|number| items.get(*number))
            .map(|item| item.height)
            .fold(0.0, f64::max);
        tops.push(y);
        heights.push(height);
        y += height + GAP.1;
    }
    let placed = |item: &Item, is_box: bool| {
        let layer_height = heights.get(item.layer).copied().unwrap_or_default();
        let height = if is_box { item.height } else { layer_height };
        Placed {
            x: item.x - left,
            y: tops.get(item.layer).copied().unwrap_or_default() + (layer_height - height) / 2.0,
            width: item.width,
            height,
        }
    };
    let bend = |number: &usize| items.get(*number).map(|item| placed(item, false));
    Layout {
        boxes: items.iter().take(boxes).map(|item| placed(item, true)).collect(),
        bends: chains.iter().map(|chain| chain.iter().filter_map(bend).collect()).collect(),
        width: if items.is_empty() { 0.0 } else { right - left },
        height: (y - GAP.1).max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrow(from: usize, to: usize) -> Arrow {
        Arrow { from, to, critical: false }
    }

    #[test]
    fn arrows_lead_down_and_boxes_keep_their_distance() {
        let sizes = vec![(100.0, 40.0); 8];
        let arrows = [(0, 2), (1, 2), (0, 3), (2, 3), (3, 4), (0, 4), (2, 5), (1, 6), (6, 7)].map(|(from, to)| arrow(from, to));
        let layout = layout(&sizes, &arrows);
        for arrow in &arrows {
            let (from, to) = (layout.boxes[arrow.from], layout.boxes[arrow.to]);
            assert!(from.y + from.height < to.y, "{arrow:?}");
        }
        for (position, left) in layout.boxes.iter().enumerate() {
            for right in layout.boxes.iter().skip(position + 1) {
                let apart = (left.x - right.x).abs() >= 100.0 + GAP.0 - 1e-6 || (left.y - right.y).abs() >= 40.0;
                assert!(apart, "{left:?} {right:?}");
            }
            assert!(left.x >= 50.0 - 1e-6 && left.x <= layout.width - 50.0 + 1e-6);
        }
        assert_eq!(layout.bends[5].len(), 2, "the arrow passes two layers");
    }

    #[test]
    fn crossings_that_need_not_be_are_avoided() {
        // 0 and 1 above, 2 and 3 below, connected crosswise; only another order avoids the crossing.
        let arrows = [arrow(0, 3), arrow(1, 2)];
        let layout = layout(&[(10.0, 10.0); 4], &arrows);
        let x = |number: usize| layout.boxes[number].x;
        assert_eq!(x(0) < x(1), x(3) < x(2));
    }

    #[test]
    fn nothing_has_no_size() {
        let layout = layout(&[], &[]);
        assert!(layout.width.abs() < f64::EPSILON && layout.height.abs() < f64::EPSILON);
    }
}
