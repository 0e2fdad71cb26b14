//! The nearest known name to one that a user mistyped.

/// Less is a mere beginning of another name, as `op` is of `operand`.
const NEAR: f64 = 0.82;

/// The candidate nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The end of an error text: `; did you mean 'x'?`, or nothing.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |candidate| format!("; did you mean '{candidate}'?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_name_is_found() {
        assert_eq!(nearest("CalcualtorNode", ["PassThroughNode", "CalculatorNode"]), Some("CalculatorNode"));
    }

    #[test]
    fn a_name_like_nothing_gets_no_suggestion() {
        assert_eq!(did_you_mean("zebra", ["PassThroughNode", "CalculatorNode"]), "");
        assert_eq!(did_you_mean("op", ["operation", "operand"]), "");
    }
}
