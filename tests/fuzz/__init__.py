"""Whatever lies on disk or comes from a user is read, or refused with a message of ours.

One file a room or format. Each example runs within a ceiling of memory and processor time
(`bounded`); anything but a `UserError` is a failure. Examples are the same in every run;
`SERFUSE_FUZZ=2000` asks for that many a test, new ones each time.
"""
