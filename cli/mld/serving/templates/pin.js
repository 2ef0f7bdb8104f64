element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-sample]');
  if (button) trigger('select', { index: Number(button.dataset.sample), value: button.title });
});
