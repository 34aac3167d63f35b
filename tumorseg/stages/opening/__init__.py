"""What every verb begins with: a plan, a dataset, a case, a device, a fold's folder."""
