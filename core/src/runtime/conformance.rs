//! What every implementation of the runtime has to pass.
