package statedir

// Interrupt lets a test end the process in thought at any change of the
// directory: f is called before a file is replaced or removed, and again (with
// done) after that is durable. What f returns becomes the change's error; f may
// panic. Nothing but tests calls this, before the directory is used.
func (d *Dir) Interrupt(f func(name string, done bool) error) { d.interrupt = f }

func (d *Dir) interrupted(name string, done bool) error {
	if d.interrupt == nil {
		return nil
	}
	return d.interrupt(name, done)
}
