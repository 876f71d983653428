"""The main job: fine-tune a small model on the shipped instructions, and show that it worked.

Client-side code only. `job` runs the whole; `settings`, `instructions`, `encoding` and `training`
are its parts, `resume` proves that a checkpoint continues bit for bit, `report` writes the files.
"""
