//! Times as RFC 3339 in UTC.
//!
//! Done by hand because a file's time may lie in any year that 64 bits of seconds reach, and a calendar library stops at
//! the year 9999. Years beyond four digits get a sign, as ISO 8601 has it.

use treebox::object::Timestamp;

/// `2026-11-22T03:04:05.000000006Z`.
pub(super) fn rfc3339(time: Timestamp) -> String {
    format!("{}.{:09}Z", date_and_time(time.seconds()), time.nanoseconds())
}

/// `2026-11-22T03:04:05Z`.
pub(super) fn rfc3339_seconds(seconds: i64) -> String {
    format!("{}Z", date_and_time(seconds))
}

/// `2026-11-22T03:04:05.678Z`, for times that are kept in milliseconds.
pub(super) fn rfc3339_ms(ms: i64) -> String {
    format!("{}.{:03}Z", date_and_time(ms.div_euclid(1000)), ms.rem_euclid(1000))
}

fn date_and_time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+05}") };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts from the first of March of the year 0, so that the leap day is the last of its year, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_FROM_MARCH_0000_TO_1970: i64 = 719_468;
    const DAYS_PER_ERA: i64 = 146_097;
    let days = days + DAYS_FROM_MARCH_0000_TO_1970;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_right() {
        let text = |seconds, nanoseconds| rfc3339(Timestamp::new(seconds, nanoseconds).unwrap());
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(1_709_210_096, 7), "2024-02-29T12:34:56.000000007Z");
        assert_eq!(text(-1, 999_999_999), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(text(253_402_300_799, 0), "9999-12-31T23:59:59.000000000Z");
        assert_eq!(text(253_402_300_800, 0), "+10000-01-01T00:00:00.000000000Z");
        assert_eq!(text(-62_167_219_201, 0), "-0001-12-31T23:59:59.000000000Z");
        assert_eq!(rfc3339_ms(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_at_the_ends_of_64_bits_do_not_panic() {
        assert_eq!(rfc3339_seconds(i64::MAX), "+292277026596-12-04T15:30:07Z");
        assert_eq!(rfc3339_seconds(i64::MIN), "-292277022657-01-27T08:29:52Z");
        rfc3339_ms(i64::MIN);
    }

    #[test]
    fn it_agrees_with_a_calendar_library() {
        for day in (-719_000..2_900_000).step_by(37) {
            let seconds = day * 86_400 + 4_242;
            let theirs = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            assert_eq!(rfc3339_seconds(seconds), theirs);
        }
    }
}
