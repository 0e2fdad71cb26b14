//! `doctor`: the environment, and what is wrong with it.

use crate::failure::Failure;
use crate::loader::{Finding, FindingKind, Loader};
use crate::table::{columns, counted};
use crate::terminal;

/// Print what was found; exit code 1 if something is wrong.
pub(crate) fn doctor(loader: &dyn Loader) -> Result<u8, Failure> {
    let findings = loader.findings()?;
    terminal::print(&report(&findings))?;
    Ok(u8::from(findings.iter().any(|finding| finding.kind == FindingKind::Problem)))
}

fn report(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let mark = match finding.kind {
            FindingKind::Fact => "✓",
            FindingKind::Note => "·",
            FindingKind::Problem => "✗",
        };
        let mut lines = finding.text.lines();
        rows.push(vec![mark.to_owned(), finding.label.clone(), lines.next().unwrap_or_default().to_owned()]);
        rows.extend(lines.map(|line| vec![String::new(), String::new(), line.to_owned()]));
    }
    let problems = findings.iter().filter(|finding| finding.kind == FindingKind::Problem).count();
    let verdict =
        if problems == 0 { "no problems found".to_owned() } else { format!("{} found", counted(problems, "problem")) };
    format!("{}\n{verdict}\n", columns(&rows, &[], ""))
}
