//! `graph`: the picture of a plan, to stdout or a file.

use crate::cli::GraphOptions;
use crate::draw::{GraphFormat, draw};
use crate::failure::Failure;
use crate::input::Place;
use crate::loader::Loader;
use crate::{output, terminal};

/// Draw the target.
pub(crate) fn graph(options: &GraphOptions, loader: &dyn Loader) -> Result<u8, Failure> {
    let place = Place::of(&options.output);
    let format = format_of(&place, options.format)?;
    output::refuse_overwriting_target(&place, &options.target)?;
    let picture = draw(loader.load(&options.target)?.plan(), format);
    match place {
        Place::Stdin => terminal::print(&picture)?,
        Place::File(_) => output::write_whole(&place, &picture, loader)?,
    }
    Ok(0)
}

fn format_of(place: &Place, chosen: Option<GraphFormat>) -> Result<GraphFormat, Failure> {
    if let Some(format) = chosen {
        return Ok(format);
    }
    let Place::File(path) = place else { return Ok(GraphFormat::Text) };
    match place.extension().as_deref() {
        Some("svg") => Ok(GraphFormat::Svg),
        Some("dot" | "gv") => Ok(GraphFormat::Dot),
        Some("mmd" | "mermaid") => Ok(GraphFormat::Mermaid),
        Some("txt") | None => Ok(GraphFormat::Text),
        Some(_) => Err(Failure::usage(format!(
            "the name of output '{}' has no known extension; add --format text, mermaid, dot or svg",
            path.display()
        ))),
    }
}
