//! The picture in the language of Graphviz.

use std::fmt::Write as _;

use super::{
    picture::{Kind, Picture},
    report::Report,
};

impl Report {
    /// Writes the graph after rewriting in the language of Graphviz, for `dot -Tsvg` and the like.
    #[must_use]
    pub fn dot(&self) -> String {
        let picture = Picture::of(self);
        let mut text = String::from("digraph transaction {\n  rankdir=TB;\n  node [fontname=\"sans-serif\", style=filled];\n");
        // Writing to a string cannot fail.
        for shape in &picture.shapes {
            let (form, fill) = match shape.kind {
                Kind::Boundary => ("box", "#dbeafe"),
                Kind::Public => ("plaintext", "#ffffff"),
                Kind::Arithmetic => ("ellipse", "#ccfbf1"),
                Kind::Comparison => ("ellipse", "#fef3c7"),
                Kind::Choice => ("ellipse", "#ede9fe"),
                Kind::Logic => ("ellipse", "#e5e7eb"),
                Kind::Random => ("ellipse", "#fce7f3"),
                Kind::Failed => ("octagon", "#fecaca"),
                Kind::Output => ("box", "#ffffff"),
            };
            let width = if shape.critical { 3 } else { 1 };
            let label = [shape.title.as_str(), shape.detail.as_str()].join("\\n");
            let label = label.trim_end_matches("\\n").replace('"', "'");
            let name = &shape.name;
            let _ = writeln!(
                text,
                "  {name} [shape={form}, fillcolor=\"{fill}\", penwidth={width}, label=\"{label}\"];"
            );
        }
        for arrow in &picture.arrows {
            if let (Some(from), Some(to)) = (picture.shapes.get(arrow.from), picture.shapes.get(arrow.to)) {
                let width = if arrow.critical { 3 } else { 1 };
                let _ = writeln!(text, "  {} -> {} [penwidth={width}];", from.name, to.name);
            }
        }
        text.push_str("}\n");
        text
    }
}
