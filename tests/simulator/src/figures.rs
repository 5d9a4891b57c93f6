//! What is measured in the simulated world.
