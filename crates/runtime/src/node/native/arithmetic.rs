//! Arithmetic on whole and floating-point numbers with the results of Python, as far as 64 bits hold them.

use crate::node::native::ValueFault;
use crate::suggest::did_you_mean;
use crate::value::Value;

/// The largest whole numbers that a float holds exactly.
const EXACT_LIMIT: u64 = 1 << 53;

/// Two to the power of 63: the first float past the whole numbers.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

/// A number as Python knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

/// What a calculator does with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Modulo,
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(whole) => Self::Int(whole),
            Number::Float(float) => Self::Float(float),
        }
    }
}

impl Number {
    /// The number in a value. A `bool` counts as 0 or 1.
    pub(super) fn from_value(value: &Value) -> Result<Self, ValueFault> {
        match *value {
            Value::Bool(flag) => Ok(Self::Int(flag.into())),
            Value::Int(whole) => Ok(Self::Int(whole)),
            Value::Float(float) => Ok(Self::Float(float)),
            _ => Err(ValueFault::WrongKind { expected: "a number", found: value.kind() }),
        }
    }

    /// Whether this is greater than or equal to `threshold`, without rounding either.
    #[allow(clippy::cast_possible_truncation, reason = "only whole floats within the range of i64 are converted")]
    pub(super) fn reaches(self, threshold: Self) -> bool {
        match (self, threshold) {
            (Self::Int(left), Self::Int(right)) => left >= right,
            (Self::Float(left), Self::Float(right)) => left >= right,
            (Self::Int(_), Self::Float(right)) if right >= INT_END => false,
            (Self::Int(_), Self::Float(right)) if right < -INT_END => true,
            (Self::Int(left), Self::Float(right)) => !right.is_nan() && left >= right.ceil() as i64,
            (Self::Float(left), Self::Int(_)) if left >= INT_END => true,
            (Self::Float(left), Self::Int(_)) if left < -INT_END => false,
            (Self::Float(left), Self::Int(right)) => !left.is_nan() && left.floor() as i64 >= right,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "to the nearest float, as Python does")]
    fn to_float(self) -> f64 {
        match self {
            Self::Int(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }
}

impl Operation {
    const ALL: [Self; 6] = [Self::Add, Self::Subtract, Self::Multiply, Self::Divide, Self::Power, Self::Modulo];
    const NAMES: [&str; 6] = ["add", "subtract", "multiply", "divide", "power", "modulo"];

    pub(super) fn named(name: &str) -> Result<Self, ValueFault> {
        Self::ALL.into_iter().find(|operation| operation.name() == name).ok_or_else(|| ValueFault::UnknownOperation {
            name: name.to_owned(),
            hint: did_you_mean(name, Self::NAMES),
        })
    }

    fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub(super) fn apply(self, left: Number, right: Number) -> Result<Number, ValueFault> {
        match (left, right) {
            (Number::Int(left), Number::Int(right)) => self.apply_to_ints(left, right),
            _ => self.apply_to_floats(left.to_float(), right.to_float()).map(Number::Float),
        }
    }

    fn apply_to_ints(self, left: i64, right: i64) -> Result<Number, ValueFault> {
        let result = match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => return divide_ints(left, right).map(Number::Float),
            Self::Power if right < 0 => {
                let (left, right) = (Number::Int(left).to_float(), Number::Int(right).to_float());
                return self.apply_to_floats(left, right).map(Number::Float);
            }
            Self::Power => raise_int(left, right),
            Self::Modulo if right == 0 => return Err(ValueFault::DivisionByZero),
            Self::Modulo => {
                let rest = left.wrapping_rem(right);
                Some(if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest })
            }
        };
        result.map(Number::Int).ok_or_else(|| self.overflow("an integer of 64 bits"))
    }

    fn apply_to_floats(self, left: f64, right: f64) -> Result<f64, ValueFault> {
        match self {
            Self::Add => Ok(left + right),
            Self::Subtract => Ok(left - right),
            Self::Multiply => Ok(left * right),
            Self::Divide | Self::Modulo if right == 0.0 => Err(ValueFault::DivisionByZero),
            Self::Divide => Ok(left / right),
            Self::Modulo => Ok(modulo_floats(left, right)),
            Self::Power if left == 0.0 && right < 0.0 => Err(ValueFault::DivisionByZero),
            Self::Power => {
                let result = left.powf(right);
                if !left.is_finite() || !right.is_finite() || result.is_finite() {
                    Ok(result)
                } else if result.is_nan() {
                    Err(ValueFault::NotReal)
                } else {
                    Err(self.overflow("a float"))
                }
            }
        }
    }

    fn overflow(self, kind: &'static str) -> ValueFault {
        ValueFault::Overflow { operation: self.name(), kind }
    }
}

/// `left` to the power of `right`, which is not negative, if 64 bits hold it.
fn raise_int(left: i64, right: i64) -> Option<i64> {
    match left {
        0 | 1 if right > 0 => Some(left),
        -1 => Some(if right % 2 == 0 { 1 } else { -1 }),
        _ => left.checked_pow(u32::try_from(right).ok()?),
    }
}

/// The float nearest to the quotient. Dividing the nearest floats would round three times.
#[allow(clippy::cast_precision_loss, reason = "exact, or rounded once on purpose")]
fn divide_ints(left: i64, right: i64) -> Result<f64, ValueFault> {
    if right == 0 {
        return Err(ValueFault::DivisionByZero);
    }
    let (dividend, divisor) = (left.unsigned_abs(), right.unsigned_abs());
    if dividend == 0 || (dividend <= EXACT_LIMIT && divisor <= EXACT_LIMIT) {
        return Ok(left as f64 / right as f64);
    }
    let dividend = u128::from(dividend);
    let shift = dividend.leading_zeros();
    // At least 64 bits of quotient; the last one also stands for a remainder, so that the conversion rounds right.
    let shifted = dividend << shift;
    let quotient = (shifted / u128::from(divisor)) | u128::from(shifted % u128::from(divisor) != 0);
    let size = quotient as f64 * 2.0_f64.powi(-i32::try_from(shift).unwrap_or(0));
    Ok(if (left < 0) == (right < 0) { size } else { -size })
}

/// The rest with the sign of the divisor.
fn modulo_floats(left: f64, right: f64) -> f64 {
    let rest = left % right;
    if rest == 0.0 {
        0.0_f64.copysign(right)
    } else if (rest < 0.0) == (right < 0.0) {
        rest
    } else {
        rest + right
    }
}
