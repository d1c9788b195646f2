//! A file that has been surveyed, and an instant of it: what every comparison starts from.

use crate::compare::{Error, Side};
use crate::estimate::Estimate;
use crate::exit;
use crate::instant::{At, Found, InstantError, Target};
use crate::levels::Level;
use crate::profile::Profile;
use crate::replay::{Instant, Plan, Replayed, replay};
use crate::shape::Grid;
use crate::survey::Survey;
use crate::units::Seconds;
use prof::{Nanos, ReadError};

/// A file that has been surveyed, and an instant of it.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where to read.
    pub profile: Profile,
    /// What it says about itself.
    pub survey: Survey,
    /// When.
    pub at: Nanos,
    /// The instant as it was typed.
    typed: At,
    /// Whether it may turn out to be an earlier one.
    is_until_exit: bool,
}

impl Input {
    /// Surveys a file and finds the instant in it.
    ///
    /// # Errors
    /// Where the file cannot be read, or does not have the instant.
    pub fn open(target: &Target) -> Result<Input, Error> {
        Input::find(Profile::at(&target.path), &target.at)
    }

    /// As [`open`](Input::open), of any source of bytes.
    ///
    /// # Errors
    /// As `open`.
    pub fn find(profile: Profile, at: &At) -> Result<Input, Error> {
        let failed = |error| Error::Read(profile.path().to_owned(), error);
        let mut survey = profile.skim().map_err(failed)?;
        let mut found = Input::resolve(&profile, &survey, at);
        if found.as_ref().is_err_and(Error::is_damage) {
            survey = profile.survey().map_err(failed)?;
            found = Input::resolve(&profile, &survey, at);
        }
        Ok(Input { at: found?, profile, survey, typed: at.clone(), is_until_exit: false })
    }

    /// The same instant, after every block has been checked.
    ///
    /// # Errors
    /// As [`open`](Input::open).
    pub fn checked(&self) -> Result<Input, Error> {
        let survey =
            self.profile.survey().map_err(|error| Error::Read(self.profile.path().to_owned(), error))?;
        let at = Input::resolve(&self.profile, &survey, &self.typed)?;
        Ok(Input { survey, at, ..self.clone() })
    }

    /// The same file at another instant.
    ///
    /// # Errors
    /// Where the file does not have the instant.
    pub fn moved(&self, typed: &At) -> Result<Input, Error> {
        let at = Input::resolve(&self.profile, &self.survey, typed)?;
        Ok(Input { at, typed: typed.clone(), is_until_exit: false, ..self.clone() })
    }

    /// The same file up to where its process began to exit, if it did, which is found as it is read.
    pub fn until_exit(self) -> Input {
        Input { is_until_exit: self.survey.has_exited(), ..self }
    }

    /// Whether what the process freed in order to end is left out.
    pub fn is_before_exit(&self) -> bool {
        self.typed == At::Exit && self.at < self.survey.end()
    }

    /// The instants whose levels tell whether the process has freed what it had when it is looked at; else none.
    pub(crate) fn levels_to_exit(&self) -> Vec<Nanos> {
        let is_after = self.survey.has_exited() && self.at == self.survey.end() && self.typed != At::Exit;
        if is_after { Grid::new(self.survey.start(), self.at).times().to_vec() } else { Vec::new() }
    }

    /// The same file where its process began to exit, if that is to be found and those levels tell.
    pub(crate) fn at_exit(&self, levels: &[Level]) -> Option<Input> {
        let at = exit::begin(levels).filter(|_| self.is_until_exit)?;
        Some(Input { at, typed: At::Exit, is_until_exit: false, ..self.clone() })
    }

    /// Says that the process has freed what it had, where those levels tell.
    pub(crate) fn exit_warning(&self, levels: &[Level]) -> Option<String> {
        let path = self.profile.path().display();
        let begin = Seconds(self.survey.seconds(exit::begin(levels)?));
        Some(format!(
            "{path}: the process freed what it had as it ended; {path}@exit, at {begin}, is before that"
        ))
    }

    /// The same file at an instant that is known to be in it.
    pub(crate) fn at_instant(&self, at: Nanos) -> Input {
        Input { at, ..self.clone() }
    }

    fn resolve(profile: &Profile, survey: &Survey, at: &At) -> Result<Nanos, Error> {
        let path = || profile.path().to_owned();
        let find = |found| {
            let end = survey.end();
            let instants = vec![Instant { at: end, since: Nanos(0) }];
            let plan = Plan { instants, ..Plan::default() };
            let replay = |plan: Plan| replay(profile, survey, &plan).map_err(Failed::Read);
            match found {
                Found::Peak => Ok(replay(plan)?.peak.time),
                Found::Exit if !survey.has_exited() => Ok(end),
                Found::Exit => {
                    let levels = Grid::new(survey.start(), end).times().to_vec();
                    Ok(exit::begin(&replay(Plan { levels, ..plan })?.levels).unwrap_or(end))
                }
            }
        };
        at.resolve(survey, find).map_err(|error| match error {
            Failed::Read(error) => Error::Read(path(), error),
            Failed::Instant(error) => Error::Instant(path(), error),
        })
    }

    pub(crate) fn replay(&self, plan: &Plan) -> Result<Replayed, Error> {
        replay(&self.profile, &self.survey, plan)
            .map_err(|error| Error::Read(self.profile.path().to_owned(), error))
    }

    pub(crate) fn side(&self, live: Estimate) -> Side {
        let at = Seconds(self.survey.seconds(self.at));
        Side { path: self.profile.path().to_owned(), at, live: live.bytes }
    }
}

enum Failed {
    Read(ReadError),
    Instant(InstantError),
}

impl From<InstantError> for Failed {
    fn from(error: InstantError) -> Failed {
        Failed::Instant(error)
    }
}
