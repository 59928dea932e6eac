//! The picture as SVG: complete in itself, with colours for light and dark surroundings.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    layout::{Layout, Placed, layout},
    picture::{Arrow, Kind, MAX_DRAWN, Picture, Shape},
    report::Report,
};

const MARGIN: f64 = 32.0;
const HEADER_HEIGHT: f64 = 74.0;
const LEGEND_HEIGHT: f64 = 46.0;

/// About how wide a character is, for the sizes of letters that are used.
const CHARACTER: (f64, f64) = (8.0, 6.5);

/// Colours for kinds: filling and border for light surroundings, then for dark ones.
const COLOURS: [(Kind, [&str; 4]); 9] = [
    (Kind::Boundary, ["#dbeafe", "#3b82f6", "#172c4f", "#60a5fa"]),
    (Kind::Public, ["#f4f4f5", "#a1a1aa", "#27272a", "#71717a"]),
    (Kind::Arithmetic, ["#d1faf0", "#0d9488", "#0c332f", "#2dd4bf"]),
    (Kind::Comparison, ["#fef3c7", "#d97706", "#3d2c0a", "#fbbf24"]),
    (Kind::Choice, ["#ede9fe", "#7c3aed", "#2a1f4d", "#a78bfa"]),
    (Kind::Logic, ["#e2e8f0", "#64748b", "#252e3b", "#94a3b8"]),
    (Kind::Random, ["#fce7f3", "#db2777", "#43142c", "#f472b6"]),
    (Kind::Failed, ["#fee2e2", "#dc2626", "#471515", "#f87171"]),
    (Kind::Output, ["#ffffff", "#334155", "#1e293b", "#cbd5e1"]),
];

impl Report {
    /// Draws the graph after rewriting. The title is the caller's; below it stand the totals. Gives nothing if there are more than [`MAX_DRAWN`]
    /// operations.
    #[must_use]
    pub fn svg(&self, title: &str) -> Option<String> {
        if self.compiled.graph.operation_count() > MAX_DRAWN {
            return None;
        }
        let picture = Picture::of(self);
        let sizes: Vec<(f64, f64)> = picture.shapes.iter().map(size).collect();
        let layout = layout(&sizes, &picture.arrows);
        let totals = self.totals();
        let kinds: BTreeSet<Kind> = picture.shapes.iter().map(|shape| shape.kind).collect();
        let header_width = text_width(title, 10.0).max(text_width(&totals, CHARACTER.1));
        let width = layout.width.max(header_width).max(legend_width(&kinds)) + 2.0 * MARGIN;
        let height = HEADER_HEIGHT + layout.height + LEGEND_HEIGHT + 2.0 * MARGIN;
        let shift = (width - layout.width) / 2.0;

        let mut svg = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             role=\"img\" aria-label=\"{}\">",
            escape(&format!("{title}: {totals}"))
        );
        svg.push_str(&style());
        let _ = writeln!(svg, "<rect class=\"page\" width=\"{width:.0}\" height=\"{height:.0}\" rx=\"12\"/>");
        let _ = writeln!(
            svg,
            "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
            MARGIN + 14.0,
            escape(title)
        );
        let _ = writeln!(
            svg,
            "<text class=\"totals\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
            MARGIN + 38.0,
            escape(&totals)
        );
        let _ = writeln!(svg, "<g transform=\"translate({shift:.1} {:.1})\">", MARGIN + HEADER_HEIGHT);
        let mut arrows: Vec<(usize, &Arrow)> = picture.arrows.iter().enumerate().collect();
        arrows.sort_by_key(|(_, arrow)| arrow.critical);
        for (number, arrow) in arrows {
            svg.push_str(&draw_arrow(&picture, &layout, number, *arrow));
        }
        for (shape, place) in picture.shapes.iter().zip(&layout.boxes) {
            svg.push_str(&draw_box(shape, *place));
        }
        svg.push_str("</g>\n");
        svg.push_str(&legend(
            &kinds,
            picture.shapes.iter().any(|shape| shape.critical),
            height - MARGIN - 12.0,
        ));
        svg.push_str("</svg>\n");
        Some(svg)
    }
}

fn text_width(text: &str, character: f64) -> f64 {
    f64::from(u32::try_from(text.chars().count()).unwrap_or(u32::MAX)) * character
}

fn size(shape: &Shape) -> (f64, f64) {
    let character = if shape.kind == Kind::Output { CHARACTER.1 } else { CHARACTER.0 };
    let width = text_width(&shape.title, character).max(text_width(&shape.detail, CHARACTER.1)) + 28.0;
    let height = if shape.detail.is_empty() { 28.0 } else { 48.0 };
    (width.max(84.0), height)
}

fn style() -> String {
    let mut light = String::new();
    let mut dark = String::new();
    for (kind, [fill, stroke, dark_fill, dark_stroke]) in COLOURS {
        let class = kind.class();
        let _ = writeln!(light, ".{class}{{fill:{fill};stroke:{stroke}}}");
        let _ = writeln!(dark, ".{class}{{fill:{dark_fill};stroke:{dark_stroke}}}");
    }
    format!(
        "<style>\n\
         text{{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#0f172a}}\n\
         .page{{fill:#ffffff;stroke:#e2e8f0}}\n\
         .title{{font-size:18px;font-weight:600}}\n\
         .totals,.key{{font-size:12.5px;fill:#475569}}\n\
         .name{{font-size:14px;font-weight:600;text-anchor:middle}}\n\
         .more{{font-size:11.5px;fill:#475569;text-anchor:middle}}\n\
         .box{{stroke-width:1.3}}\n\
         .box.hot{{stroke-width:3}}\n\
         .line{{fill:none;stroke:#94a3b8;stroke-width:1.4}}\n\
         .line.hot{{stroke:#ea580c;stroke-width:2.8}}\n\
         .tip{{fill:#94a3b8}}\n\
         .tip.hot{{fill:#ea580c}}\n\
         {light}.box.hot{{stroke:#ea580c}}\n\
         @media (prefers-color-scheme:dark){{\n\
         text{{fill:#f1f5f9}}\n\
         .page{{fill:#0f172a;stroke:#1e293b}}\n\
         .totals,.key,.more{{fill:#a8b5c7}}\n\
         .line{{stroke:#64748b}}\n\
         .tip{{fill:#64748b}}\n\
         {dark}.line.hot,.box.hot{{stroke:#fb923c}}\n\
         .line.hot{{fill:none}}\n\
         .tip.hot{{fill:#fb923c}}\n\
         }}\n\
         </style>\n"
    )
}

fn draw_box(shape: &Shape, place: Placed) -> String {
    let mut svg = format!("<g><title>{}</title>", escape(&shape.hint));
    let round = match shape.kind {
        Kind::Boundary => 4.0,
        Kind::Output => place.height / 2.0,
        _ => 10.0,
    };
    let hot = if shape.critical { " hot" } else { "" };
    let _ = write!(
        svg,
        "<rect class=\"box {}{hot}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{round:.1}\"/>",
        shape.kind.class(),
        place.x - place.width / 2.0,
        place.y,
        place.width,
        place.height
    );
    let (class, name_y) = match shape.kind {
        Kind::Output => ("more", 18.0),
        _ => ("name", if shape.detail.is_empty() { 19.0 } else { 21.0 }),
    };
    let _ = write!(
        svg,
        "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        place.x,
        place.y + name_y,
        escape(&shape.title)
    );
    if !shape.detail.is_empty() {
        let _ = write!(
            svg,
            "<text class=\"more\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            place.x,
            place.y + 38.0,
            escape(&shape.detail)
        );
    }
    svg.push_str("</g>\n");
    svg
}

/// Draws an arrow: a curve to each of its bends, straight through the layers, and a tip.
fn draw_arrow(picture: &Picture, layout: &Layout, number: usize, arrow: Arrow) -> String {
    let (Some(from), Some(to)) = (layout.boxes.get(arrow.from), layout.boxes.get(arrow.to)) else {
        return String::new();
    };
    let bends = layout.bends.get(number).map_or(&[][..], Vec::as_slice);
    let end = (to.x + port(picture, layout, arrow, to), to.y - 7.0);
    let mut at = (from.x, from.y + from.height);
    let mut path = format!("M{:.1} {:.1}", at.0, at.1);
    let curve = |path: &mut String, from: (f64, f64), to: (f64, f64)| {
        let middle = (from.1 + to.1) / 2.0;
        let _ = write!(path, "C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {:.1}", from.0, to.0, to.0, to.1);
    };
    for bend in bends {
        curve(&mut path, at, (bend.x, bend.y));
        at = (bend.x, bend.y + bend.height);
        let _ = write!(path, "V{:.1}", at.1);
    }
    curve(&mut path, at, end);
    let hot = if arrow.critical { " hot" } else { "" };
    format!(
        "<path class=\"line{hot}\" d=\"{path}\"/><path class=\"tip{hot}\" d=\"M{:.1} {:.1}l-4.5 -8.5h9z\"/>\n",
        end.0,
        end.1 + 7.0
    )
}

/// Says how far from the middle of its box an arrow ends: arrows into one box end beside each other, in the order in which they come.
fn port(picture: &Picture, layout: &Layout, arrow: Arrow, to: &Placed) -> f64 {
    let comes_from = |number: usize, other: &Arrow| {
        let bend = layout.bends.get(number).and_then(|bends| bends.last());
        bend.or_else(|| layout.boxes.get(other.from)).map_or(0.0, |place| place.x)
    };
    let mut others: Vec<(f64, usize)> = picture
        .arrows
        .iter()
        .enumerate()
        .filter(|(_, other)| other.to == arrow.to)
        .map(|(number, other)| (comes_from(number, other), other.from))
        .collect();
    others.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    let Some(position) = others.iter().position(|(_, from)| *from == arrow.from) else {
        return 0.0;
    };
    let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let step = ((to.width - 30.0) / float(others.len())).min(30.0);
    (float(position) - (float(others.len()) - 1.0) / 2.0) * step
}

fn legend_width(kinds: &BTreeSet<Kind>) -> f64 {
    kinds.iter().map(|kind| text_width(kind.meaning(), CHARACTER.1) + 40.0).sum::<f64>() + 130.0
}

fn legend(kinds: &BTreeSet<Kind>, critical: bool, y: f64) -> String {
    let mut svg = String::new();
    let mut x = MARGIN;
    for kind in kinds {
        let _ = writeln!(
            svg,
            "<rect class=\"box {}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"16\" height=\"12\" rx=\"3\"/><text class=\"key\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            kind.class(),
            y - 10.5,
            x + 22.0,
            kind.meaning()
        );
        x += text_width(kind.meaning(), CHARACTER.1) + 40.0;
    }
    if critical {
        let _ = writeln!(
            svg,
            "<path class=\"line hot\" d=\"M{x:.1} {:.1}h18\"/><text class=\"key\" x=\"{:.1}\" y=\"{y:.1}\">critical path</text>",
            y - 4.5,
            x + 24.0
        );
    }
    svg
}

/// Writes text so that XML takes it as text.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML has no way to write most control characters.
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("a<b>&\"c\"'\u{1}"), "a&lt;b&gt;&amp;&quot;c&quot;&#39; ");
    }
}
