"""`make mutants`: plants faults in the code, one at a time, and says which of them no test notices."""
