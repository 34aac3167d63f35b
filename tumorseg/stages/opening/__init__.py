"""Opening steps common to all verbs: a plan, a dataset, a case, a device, a fold's folder."""
