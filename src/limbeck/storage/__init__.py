"""Where work is kept: a job's folder with its manifests (`workspace`) and teachers' answers (`answers`)."""
