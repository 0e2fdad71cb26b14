//! Plans as SVG pictures that need no font, script or style sheet from elsewhere.

use remotemedia_runtime::Plan;

use super::layout::{Layout, arrange, exact};
use super::{group_of, is_queue, labels, options, shown_options, stage_label};
use crate::table::{counted, on_one_line};

const LABEL_LIMIT: usize = 28;
/// A row of more nodes than this would not fit the width of a page: longer pipelines run downwards, unless they are wider still.
const MAX_DEPTH_ACROSS: usize = 6;
const BOX_HEIGHT: f64 = 58.0;
const LINE_HEIGHT: f64 = 18.0;
/// Options stand on lines of as many messages.
const OPTIONS_LIMIT: usize = 34;
const BOX_PADDING: f64 = 18.0;
const MARGIN: f64 = 24.0;
const HEADING_HEIGHT: f64 = 50.0;
/// The frame of a stage around its nodes; more at the top, for its label.
const FRAME: f64 = 18.0;
const FRAME_LABEL: f64 = 22.0;
/// Where the first layer begins.
const ORIGIN: (f64, f64) = (MARGIN + FRAME, MARGIN + HEADING_HEIGHT + FRAME_LABEL + 8.0);
/// Between the layers, where the connections run.
const LAYER_GAP: f64 = 58.0;
const ACROSS_GAP: f64 = 26.0;
/// Where boxes side by side may each have a frame.
const FRAMED_ACROSS_GAP: f64 = 58.0;
const ARROW_LENGTH: f64 = 10.0;

/// The colours, with their dark counterparts; every rule begins with our class, for pages with several pictures.
const STYLE: &str = "\
.rm-graph{--rm-page:#fcfcfe;--rm-line:#dfe3ee;--rm-box:#ffffff;--rm-edge:#8b96b3;--rm-rim:#b9c2d9;--rm-ink:#1d2438;\
--rm-soft:#66708a;--rm-frame:#f2f4fb;--rm-accent:#4c63e6;font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
@media (prefers-color-scheme:dark){.rm-graph{--rm-page:#13161e;--rm-line:#2b3244;--rm-box:#222838;--rm-edge:#7783a3;\
--rm-rim:#434d68;--rm-ink:#eceff8;--rm-soft:#9aa5c0;--rm-frame:#1a1f2b;--rm-accent:#93a4ff}}
.rm-graph .page{fill:var(--rm-page);stroke:var(--rm-line)}
.rm-graph .name{fill:var(--rm-ink);font-size:17px;font-weight:650}
.rm-graph .facts,.rm-graph .kind,.rm-graph .stage{fill:var(--rm-soft);font-size:12px}
.rm-graph .stage{letter-spacing:.02em}
.rm-graph .frame{fill:var(--rm-frame);stroke:var(--rm-line)}
.rm-graph .worker{stroke:var(--rm-accent);stroke-width:1.5}
.rm-graph .box{fill:var(--rm-box);stroke:var(--rm-rim);stroke-width:1.25}
.rm-graph .joining{stroke:var(--rm-accent);stroke-width:1.75}
.rm-graph .id{fill:var(--rm-ink);font-size:14px;font-weight:600}
.rm-graph .edge{fill:none;stroke:var(--rm-edge);stroke-width:1.6}
.rm-graph .waiting{stroke-dasharray:5 4}
.rm-graph .queue{fill:var(--rm-box);stroke:var(--rm-edge);stroke-width:1.3}
.rm-graph .options{fill:var(--rm-accent);font-size:11.5px}
.rm-graph .tip{fill:var(--rm-edge)}
.rm-graph .badge{fill:var(--rm-accent)}
.rm-graph .badge-text{fill:var(--rm-page);font-size:10.5px;font-weight:650}
";

pub(super) fn draw(plan: &Plan) -> String {
    Picture::of(plan).drawn()
}

struct Picture<'a> {
    plan: &'a Plan,
    layout: Layout,
    is_downwards: bool,
    box_width: f64,
    box_height: f64,
    /// The stages that can be framed without enclosing a node of another one.
    framed: Vec<Option<Rect>>,
}

#[derive(Clone, Copy)]
struct Rect {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Rect {
    fn drawn(&self, class: &str, radius: u32) -> String {
        let Self { left, top, right, bottom } = self;
        let (width, height) = (right - left, bottom - top);
        format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius}\"/>"
        )
    }

    fn middle(&self) -> (f64, f64) {
        (f64::midpoint(self.left, self.right), f64::midpoint(self.top, self.bottom))
    }

    fn around(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

impl<'a> Picture<'a> {
    fn of(plan: &'a Plan) -> Self {
        let widest = plan.nodes().iter().enumerate().map(|(index, node)| {
            let (id, node_type) = labels(node, LABEL_LIMIT);
            let options = option_lines(plan, index).into_iter().map(|line| text_width(&line, 11.5)).fold(0.0, f64::max);
            text_width(&id, 14.6).max(text_width(&node_type, 12.0)).max(options)
        });
        // The name of a group may be longer than those of its nodes.
        let stages = (0..plan.stages().len()).filter(|&stage| group_of(plan, stage).is_some());
        let widest = widest.chain(stages.map(|stage| text_width(&stage_label(plan, stage), 12.0)));
        let box_width = (widest.fold(0.0, f64::max) + 2.0 * BOX_PADDING).max(120.0).ceil();
        let option_rows = (0..plan.nodes().len()).map(|index| option_lines(plan, index).len()).max().unwrap_or(0);
        let box_height = BOX_HEIGHT + LINE_HEIGHT * exact(option_rows);
        let layout = arrange(plan);
        let is_downwards = layout.depth > MAX_DEPTH_ACROSS && exact(layout.depth) > layout.breadth;
        let mut picture = Self { plan, layout, is_downwards, box_width, box_height, framed: Vec::new() };
        picture.framed = (0..plan.stages().len()).map(|stage| picture.frame(stage)).collect();
        picture
    }

    fn drawn(&self) -> String {
        let (width, height) = self.size();
        let name = on_one_line(self.plan.name(), 60);
        let facts =
            format!("{} · {}", counted(self.plan.nodes().len(), "node"), counted(self.plan.stages().len(), "stage"));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rm-graph\" role=\"img\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n\
             <defs><marker id=\"rm-tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path class=\"tip\" d=\"M0 0.8 10 5 0 9.2 2.4 5Z\"/></marker></defs>\n",
            escaped(&format!("{name}: {facts}"))
        );
        let page = Rect { left: 0.5, top: 0.5, right: width - 0.5, bottom: height - 0.5 };
        svg += &(page.drawn("page", 14) + "\n");
        svg += &text("name", MARGIN, MARGIN + 14.0, "start", &name);
        svg += &text("facts", MARGIN, MARGIN + 33.0, "start", &facts);
        svg.extend((0..self.framed.len()).map(|stage| self.drawn_frame(stage)));
        svg.extend(self.layout.paths.iter().map(|path| self.drawn_path(path)));
        svg.extend((0..self.plan.nodes().len()).map(|index| self.drawn_node(index)));
        svg + "</svg>\n"
    }

    fn size(&self) -> (f64, f64) {
        let (along, across) = (self.along_step(), self.across_step());
        let (depth, breadth) = (exact(self.layout.depth), self.layout.breadth);
        let (width, height) = self.turned((depth * along - LAYER_GAP, breadth * across - self.across_gap()));
        let (left, top) = ORIGIN;
        let heading = text_width(&on_one_line(self.plan.name(), 60), 17.8) + 2.0 * MARGIN;
        ((width + left + FRAME + MARGIN).max(heading).ceil(), (height + top + FRAME + MARGIN).ceil())
    }

    /// A place along and across the layers as one in the picture, or the other way round.
    fn turned(&self, (first, second): (f64, f64)) -> (f64, f64) {
        if self.is_downwards { (second, first) } else { (first, second) }
    }

    fn along_step(&self) -> f64 {
        LAYER_GAP + if self.is_downwards { self.box_height } else { self.box_width }
    }

    fn across_gap(&self) -> f64 {
        if self.plan.stages().len() > 1 { FRAMED_ACROSS_GAP } else { ACROSS_GAP }
    }

    fn across_step(&self) -> f64 {
        self.across_gap() + if self.is_downwards { self.box_width } else { self.box_height }
    }

    /// The box of a node, or the room that a bend leaves for its connection.
    fn place(&self, place: usize) -> Rect {
        let along = exact(self.layout.layer_of[place]) * self.along_step();
        let across = self.layout.across[place] * self.across_step();
        let (x, y) = self.turned((along, across));
        let (left, top) = (ORIGIN.0 + x, ORIGIN.1 + y);
        Rect { left, top, right: left + self.box_width, bottom: top + self.box_height }
    }

    fn frame(&self, stage: usize) -> Option<Rect> {
        let nodes = &self.plan.stages()[stage].nodes;
        let inner = nodes.iter().map(|&node| self.place(node)).reduce(Rect::around)?;
        let frame = Rect {
            left: inner.left - FRAME,
            top: inner.top - FRAME_LABEL - 8.0,
            right: inner.right + FRAME,
            bottom: inner.bottom + FRAME,
        };
        let is_alone = (0..self.plan.nodes().len())
            .filter(|&node| self.plan.stage_of(node) != stage)
            .all(|node| !self.place(node).meets(&frame));
        is_alone.then_some(frame)
    }

    fn drawn_frame(&self, stage: usize) -> String {
        let Some(frame) = self.framed[stage] else { return String::new() };
        format!(
            "{}\n{}",
            frame.drawn(if self.plan.stages()[stage].workers() > 0 { "frame worker" } else { "frame" }, 12),
            text("stage", frame.left + FRAME, frame.top + 19.0, "start", &stage_label(self.plan, stage))
        )
    }

    fn drawn_path(&self, path: &[usize]) -> String {
        let mut at = self.exit(path[0]);
        let mut line = format!("M{:.1} {:.1}", at.0, at.1);
        for (step, &place) in path.iter().enumerate().skip(1) {
            let to = self.entrance(place);
            line += &self.curve(at, to);
            at = to;
            if step < path.len() - 1 {
                at = self.exit(place);
                line += &format!("L{:.1} {:.1}", at.0, at.1);
            }
        }
        let is_queue = is_queue(self.plan, path[0], path[path.len() - 1]);
        let waiting = if is_queue { " waiting" } else { "" };
        let mut svg = format!("<path class=\"edge{waiting}\" d=\"{line}\" marker-end=\"url(#rm-tip)\"/>\n");
        if is_queue {
            svg += &drawn_queue(self.exit(path[0]), self.entrance(path[1]));
        }
        svg
    }

    /// A curve that ends with a straight piece, on which an arrow head sits well.
    fn curve(&self, from: (f64, f64), to: (f64, f64)) -> String {
        let ((from_along, from_across), (to_along, to_across)) = (self.turned(from), self.turned(to));
        let end = to_along - ARROW_LENGTH;
        let middle = f64::midpoint(from_along, end);
        let [first, second, end] =
            [(middle, from_across), (middle, to_across), (end, to_across)].map(|place| self.turned(place));
        format!(
            "C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}L{:.1} {:.1}",
            first.0, first.1, second.0, second.1, end.0, end.1, to.0, to.1
        )
    }

    fn entrance(&self, place: usize) -> (f64, f64) {
        let (rect, (x, y)) = (self.place(place), self.place(place).middle());
        if self.is_downwards { (x, rect.top - 1.0) } else { (rect.left - 1.0, y) }
    }

    fn exit(&self, place: usize) -> (f64, f64) {
        let (rect, (x, y)) = (self.place(place), self.place(place).middle());
        if self.is_downwards { (x, rect.bottom) } else { (rect.right, y) }
    }

    fn drawn_node(&self, index: usize) -> String {
        let node = &self.plan.nodes()[index];
        let stage = self.plan.stage_of(index);
        let (id, node_type) = labels(node, LABEL_LIMIT);
        let rect = self.place(index);
        let kind = match (node_type.is_empty(), self.framed[stage].is_some()) {
            (_, true) => node_type,
            (true, false) => stage_label(self.plan, stage),
            (false, false) => format!("{node_type} · {}", stage + 1),
        };
        let options = options(self.plan, index);
        let separator = if options.is_empty() { "" } else { ", " };
        let label = stage_label(self.plan, stage);
        let whole = format!("{} ({}), {label}{separator}{options}", node.id, node.node_type);
        let mut svg = format!(
            "<g><title>{}</title>{}",
            escaped(&on_one_line(&whole, usize::MAX)),
            rect.drawn(if node.join { "box joining" } else { "box" }, 10),
        );
        let options = option_lines(self.plan, index).into_iter().map(|line| ("options", line));
        svg += &drawn_lines(rect.middle(), [("id", id), ("kind", kind)].into_iter().chain(options));
        if node.join {
            svg += &format!(
                "<rect class=\"badge\" x=\"{:.1}\" y=\"{:.1}\" width=\"34\" height=\"17\" rx=\"8.5\"/>{}",
                rect.right - 44.0,
                rect.top - 8.5,
                text("badge-text", rect.right - 27.0, rect.top + 3.7, "middle", "join")
            );
        }
        svg + "</g>\n"
    }
}

/// The lines of a box, around its middle.
fn drawn_lines(middle: (f64, f64), lines: impl Iterator<Item = (&'static str, String)>) -> String {
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty()).collect();
    let first = middle.1 + 5.5 - LINE_HEIGHT / 2.0 * exact(lines.len().saturating_sub(1));
    let placed = lines.iter().enumerate().map(|(row, (class, line))| (class, line, first + LINE_HEIGHT * exact(row)));
    placed.map(|(class, line, y)| text(class, middle.0, y, "middle", line)).collect()
}

/// Items that wait, half-way between two boxes.
fn drawn_queue(from: (f64, f64), to: (f64, f64)) -> String {
    let (x, y) = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
    let bar = |at: f64| {
        format!("<rect class=\"queue\" x=\"{at:.1}\" y=\"{:.1}\" width=\"6\" height=\"13\" rx=\"2\"/>", y - 6.5)
    };
    format!("{}{}{}\n", bar(x - 11.0), bar(x - 3.0), bar(x + 5.0))
}

/// The options of a node, as many on a line as fit.
fn option_lines(plan: &Plan, index: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for option in shown_options(plan, index) {
        match lines.last_mut() {
            Some(line) if line.len() + option.len() <= OPTIONS_LIMIT => *line += &format!(" · {option}"),
            _ => lines.push(option),
        }
    }
    lines
}

fn text(class: &str, x: f64, y: f64, anchor: &str, content: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n", escaped(content))
}

/// A guess on the safe side: which font the reader has is not known.
fn text_width(text: &str, size: f64) -> f64 {
    let ems = text.chars().map(|character| match character {
        'i' | 'j' | 'l' | 'f' | 't' | 'r' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '(' | ')' | '[' | ']' | ' ' => {
            0.36
        }
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 0.92,
        character if character.is_ascii_uppercase() => 0.70,
        character if character.is_ascii() => 0.58,
        _ => 1.0,
    });
    ems.sum::<f64>() * size
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no way to write these two.
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}
