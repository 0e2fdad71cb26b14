//! Times of day in the formats of logs and certificates, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_SECS: i64 = 86_400;

/// The time as RFC 3339 writes it, with milliseconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let (of_day, date) = (seconds.rem_euclid(DAY_SECS), date(seconds));
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The date of a time in seconds since 1970.
pub(crate) fn date(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(DAY_SECS));
    format!("{year:04}-{month:02}-{day:02}")
}

/// The seconds from 1970 to a time of day, which may be out of its range.
pub(crate) fn from_civil(year: i64, month: i64, day: i64, second_of_day: i64) -> i64 {
    // Years that begin in March end with the leap day: https://howardhinnant.github.io/date_algorithms.html
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) * DAY_SECS + second_of_day
}

/// The year, month and day of a number of days since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let of = |millis| rfc3339(UNIX_EPOCH + Duration::from_millis(millis));

        assert_eq!(of(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(of(951_827_696_007), "2000-02-29T12:34:56.007Z");
        assert_eq!(of(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(of(4_102_444_800_000), "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn dates_are_those_of_their_seconds_in_all_years() {
        for days in (-200_000..200_000).step_by(7) {
            let (year, month, day) = civil(days);

            assert!((1..=12).contains(&month) && (1..=31).contains(&day));
            assert_eq!(from_civil(year, month, day, 5), days * DAY_SECS + 5, "{year}-{month}-{day}");
        }
    }
}
