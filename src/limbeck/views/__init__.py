"""A job's data in full view, long after it ran or while it does: what a face asks of the folders that stages leave.

`rows` joins a job's files to one row an example, `where` filters them, `lineage` follows an example to the models that
learned from it, `export` writes rows for other tools, `report` draws them on a page. Nothing here changes a job, and
nothing needs torch.
"""
