//! Lists of processors and memory nodes, cpuset(7) "List format".
//!
//! Responsible for reading them. Must not know what is numbered. Invariant: no list makes more
//! work than its limit.

/// Reads a list such as `0-3,7,16-31` of numbers below `limit`. The empty list is an error, and
/// so is an empty range.
pub(crate) fn parse_list(text: &str, limit: usize) -> Result<Vec<usize>, String> {
    let mut present = vec![false; limit];
    for part in text.trim().split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first, limit)?, number(last, limit)?);
        match present.get_mut(first..=last) {
            Some(range) if first <= last => range.fill(true),
            _ => return Err(format!("the range {first}-{last} is empty")),
        }
    }
    let numbers = present.into_iter().enumerate();
    Ok(numbers.filter_map(|(n, is)| is.then_some(n)).collect())
}

fn number(text: &str, limit: usize) -> Result<usize, String> {
    // `parse` takes a sign.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && number < limit => Ok(number),
        Ok(_) if digits => Err(format!("{text} is not below {limit}")),
        _ => Err("is no list of numbers such as 0-3,7".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let table: [(&str, Option<&[usize]>); 12] = [
            ("0", Some(&[0])),
            ("0-2,5", Some(&[0, 1, 2, 5])),
            ("5,0-2,1", Some(&[0, 1, 2, 5])),
            (" 1, 2\n", Some(&[1, 2])),
            ("", None),
            ("1,", None),
            ("2-1", None),
            ("-1", None),
            ("+1", None),
            ("1-2-3", None),
            ("64", None),
            ("99999999999999999999999", None),
        ];
        for (text, expected) in table {
            let found = parse_list(text, 64).ok();
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
        let long = vec!["0-63"; 10_000].join(",");
        assert_eq!(parse_list(&long, 64).map(|l| l.len()), Ok(64));
    }
}
